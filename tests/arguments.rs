//! Boot arguments: words and quotes, the kernel's keys, what is left to the application.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use ashlar::arguments::{Arguments, KEYS};
use ashlar::mm::huge::{Enabled, FaultMode};
use log::LevelFilter;

fn application(text: &str) -> Vec<String> {
    Arguments::parse(text).application().map(|argument| argument.to_string()).collect()
}

fn warnings(text: &str) -> Vec<String> {
    Arguments::parse(text).warnings.iter().map(|warning| warning.to_string()).collect()
}

fn nothing_means_defaults() {
    for text in ["", " ", "\t \n"] {
        let arguments = Arguments::parse(text);
        assert_eq!(arguments.log, LevelFilter::Warn);
        assert!(!arguments.semihosting && !arguments.overcommit);
        assert_eq!(arguments.transparent_hugepage, Enabled::Always);
        assert_eq!(arguments.fault, FaultMode::Adaptive);
        assert_eq!(arguments.out, None);
        assert!(arguments.warnings.is_empty());
        assert_eq!(arguments.application().count(), 0);
    }
}

fn every_key_is_read() {
    let text = "log=trace semihosting=on transparent_hugepage=madvise fault=eager overcommit=on out=/tmp/a=b";
    let arguments = Arguments::parse(text);
    assert_eq!(arguments.log, LevelFilter::Trace);
    assert!(arguments.semihosting && arguments.overcommit);
    assert_eq!(arguments.transparent_hugepage, Enabled::Madvise);
    assert_eq!(arguments.fault, FaultMode::Eager);
    assert_eq!(arguments.out, Some("/tmp/a=b"));
    assert!(arguments.warnings.is_empty());
    assert_eq!(arguments.application().count(), 0);
    for key in KEYS {
        assert!(text.contains(key.name), "{} is not in this test", key.name);
    }
}

fn every_allowed_value_is_allowed() {
    for key in KEYS.iter().filter(|key| key.name != "out") {
        for value in key.allowed.split(", ") {
            assert_eq!(warnings(&(key.name.to_string() + "=" + value)), [""; 0]);
        }
    }
}

fn the_last_of_a_key_counts() {
    assert_eq!(Arguments::parse("log=error log=debug").log, LevelFilter::Debug);
    assert!(!Arguments::parse("semihosting=on semihosting=off").semihosting);
    assert_eq!(Arguments::parse("log=debug log=loud").log, LevelFilter::Debug);
}

fn quotes_keep_blanks() {
    let text = r#"  out="/a b/c"  query="two  words" "a third" "key=x y" empty="" plain=x=y -v "#;
    assert_eq!(Arguments::parse(text).out, Some("/a b/c"));
    assert_eq!(application(text), ["query=two  words", "a third", "key=x y", "empty=", "plain=x=y", "-v"]);
    let arguments = Arguments::parse(text);
    let query = arguments.application().find(|argument| argument.key == "query");
    assert_eq!(query.and_then(|query| query.value), Some("two  words"));
    assert_eq!(arguments.application().last().map(|argument| (argument.key, argument.value)), Some(("-v", None)));
}

fn warnings_name_argument_and_values() {
    let text = "transparent_hugepage=sometimes";
    assert_eq!(
        warnings(text),
        ["boot argument transparent_hugepage=sometimes is ignored: transparent_hugepage takes always, madvise, never"]
    );
    assert_eq!(Arguments::parse(text).transparent_hugepage, Enabled::Always);
    assert_eq!(warnings("semihosting"), ["boot argument semihosting is ignored: semihosting takes on, off"]);
    assert_eq!(warnings("out="), ["boot argument out= is ignored: out takes a directory of the host"]);
    // The application does not see a word of the kernel's, misspelt value or not.
    assert_eq!(application(text), [""; 0]);
}

fn an_unclosed_quote_is_named() {
    let text = r#"log=info query="two words log=trace"#;
    assert_eq!(warnings(text), [r#"boot arguments: no closing quote after "two words log=trace"#]);
    assert_eq!(application(text), ["query=two words log=trace"]);
    assert_eq!(Arguments::parse(text).log, LevelFilter::Info);
}

fn many_warnings_are_survived() {
    let text = "fault=x ".repeat(100);
    assert_eq!(warnings(&text).len(), 8);
}

ashlar_test::tests! {
    nothing_means_defaults,
    every_key_is_read,
    every_allowed_value_is_allowed,
    the_last_of_a_key_counts,
    quotes_keep_blanks,
    warnings_name_argument_and_values,
    an_unclosed_quote_is_named,
    many_warnings_are_survived,
}
