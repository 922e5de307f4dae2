//! Boot arguments: words and quotes, the kernel's keys, what is left to the application.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use ashlar::arguments::{Arguments, KEYS};
use ashlar::mm::huge::{KNOBS, Settings};
use log::LevelFilter;

fn application(text: &str) -> Vec<String> {
    Arguments::parse(text).application().map(|argument| argument.to_string()).collect()
}

fn value(text: &str, knob: &str) -> u16 {
    let settings = Arguments::parse(text).policy;
    settings.iter().find(|(name, _)| *name == knob).expect("there is such a knob").1
}

fn warnings(text: &str) -> Vec<String> {
    Arguments::parse(text).warnings.iter().map(|warning| warning.to_string()).collect()
}

fn nothing_means_defaults() {
    for text in ["", " ", "\t \n"] {
        let arguments = Arguments::parse(text);
        assert_eq!(arguments.log, LevelFilter::Warn);
        assert!(!arguments.semihosting && !arguments.overcommit);
        assert_eq!(arguments.policy, Settings::DEFAULT);
        assert_eq!(arguments.out, None);
        assert!(arguments.warnings.is_empty());
        assert_eq!(arguments.application().count(), 0);
    }
}

fn every_key_is_read() {
    let policy = "transparent_hugepage=madvise defrag=defer+madvise max_ptes_none=511 shrink_underused=0 khugepaged=off \
                  khugepaged_budget=20 fault=eager use_zero_page=0 max_ptes_shared=7 without=groups";
    let text = format!(
        "log=trace semihosting=on {policy} overcommit=on maxcpus=3 mem=64M console=serial1 at_exit=reset begin=5f out=/tmp/a=b"
    );
    let text = text.as_str();
    let arguments = Arguments::parse(text);
    assert_eq!(arguments.log, LevelFilter::Trace);
    assert!(arguments.semihosting && arguments.overcommit);
    assert_eq!(value(text, "transparent_hugepage"), 1);
    assert_eq!(value(text, "defrag"), 2);
    assert_eq!(value(text, "max_ptes_none"), 511);
    assert_eq!(value(text, "khugepaged_budget"), 20);
    assert_eq!((value(text, "shrink_underused"), value(text, "khugepaged"), value(text, "fault")), (0, 0, 1));
    assert_eq!((value(text, "use_zero_page"), value(text, "max_ptes_shared"), value(text, "without")), (0, 7, 2));
    assert_eq!(arguments.out, Some("/tmp/a=b"));
    assert_eq!(arguments.begin, Some("5f"));
    assert_eq!((arguments.maxcpus, arguments.mem, arguments.reset), (3, 64 << 20, true));
    assert_eq!(ashlar::arguments::value(text, "console"), Some("serial1"));
    assert_eq!(ashlar::arguments::value("console=a console=\"b c\" xconsole=d", "console"), Some("b c"));
    assert!(arguments.warnings.is_empty());
    assert_eq!(arguments.application().count(), 0);
    for name in KEYS.iter().map(|key| key.name).chain(KNOBS.iter().map(|knob| knob.name)) {
        assert!(text.contains(name), "{name} is not in this test");
    }
}

fn every_allowed_value_is_allowed() {
    let keys = KEYS.iter().map(|key| (key.name, key.allowed)).chain(KNOBS.iter().map(|knob| (knob.name, knob.allowed)));
    for (name, allowed) in keys.filter(|(name, _)| *name != "out") {
        for value in allowed.split(", ").flat_map(|values| values.split(" to ")) {
            assert_eq!(warnings(&(name.to_string() + "=" + value)), [""; 0]);
        }
    }
}

fn values_out_of_range_are_refused_and_the_default_is_kept() {
    for value in ["512", "-1", "+1", "65536", "x", "", "0 to 511", "0x10"] {
        let text = format!("max_ptes_none=\"{value}\"");
        let warning = format!("boot argument max_ptes_none={value} is ignored: max_ptes_none takes 0 to 511");
        assert_eq!(warnings(&text), [warning]);
        assert_eq!(Arguments::parse(&text).policy, Settings::DEFAULT);
    }
    assert_eq!(warnings("maxcpus=0 maxcpus=+2 maxcpus=513 maxcpus").len(), 4);
    assert_eq!(Arguments::parse("maxcpus=0").maxcpus, usize::MAX);
    assert_eq!(warnings("khugepaged_budget=101").len() + warnings("defrag=madvise+defer defrag").len(), 3);
}

fn sizes_have_suffixes() {
    for (size, bytes) in [("4096", 4096), ("6k", 6 << 10), ("100M", 100 << 20), ("3G", 3 << 30), ("384G", 384 << 30)] {
        assert_eq!(Arguments::parse(&format!("mem={size}")).mem, bytes);
    }
    let wrong =
        ["", "0", "4095", "M", "1T", "1MM", "1 M", "+1M", "-1M", "0x1000", "385G", "17179869185G", "1.5G", "1MiB"];
    for size in wrong {
        let text = format!("mem=\"{size}\"");
        assert_eq!(warnings(&text), [format!("boot argument mem={size} is ignored: mem takes 4K to 384G")]);
        assert_eq!(Arguments::parse(&text).mem, u64::MAX);
    }
}

fn policy_is_set_by_name() {
    let mut settings = Settings::DEFAULT;
    assert_eq!(settings.set("max_ptes_none", "5"), Ok(()));
    let error = settings.set("defrag", "often").expect_err("no such value");
    assert_eq!(error.to_string(), "defrag takes always, defer, defer+madvise, madvise, never");
    let error = settings.set("max_ptes_nun", "5").expect_err("no such policy");
    assert!(error.to_string().starts_with("no such policy; there are transparent_hugepage defrag"));
    assert_eq!(
        settings.to_string(),
        "transparent_hugepage=always defrag=never max_ptes_none=5 shrink_underused=1 khugepaged=on khugepaged_budget=5 \
         fault=adaptive use_zero_page=1 max_ptes_shared=256 without=nothing"
    );
    let changed: Vec<_> = settings.iter().zip(Settings::DEFAULT.iter()).filter(|(now, before)| now != before).collect();
    assert_eq!(changed, [(("max_ptes_none", 5), ("max_ptes_none", 64))]);
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

fn nothing_before_the_mark_is_read() {
    let firmware = r#"video=HDMI-A-1:1920x1080M@60 smsc95xx.macaddr=00 log=trace maxcpus=none"#;
    let text = format!(r#"{firmware}  -- log=info query="a -- b" -- rest"#);
    let arguments = Arguments::parse(&text);
    assert_eq!(arguments.log, LevelFilter::Info);
    assert!(arguments.warnings.is_empty());
    assert_eq!(application(&text), ["query=a -- b", "--", "rest"]);
    assert_eq!(ashlar::arguments::value(&text, "log"), Some("info"));
    assert_eq!(ashlar::arguments::value(&text, "maxcpus"), None);
    assert_eq!(application("--"), [""; 0]);
    assert_eq!(application("a--b --c"), ["a--b", "--c"]);
    assert_eq!(application(r#"query="a -- b""#), ["query=a -- b"]);
}

fn warnings_name_argument_and_values() {
    let text = "transparent_hugepage=sometimes";
    assert_eq!(
        warnings(text),
        ["boot argument transparent_hugepage=sometimes is ignored: transparent_hugepage takes always, madvise, never"]
    );
    assert_eq!(Arguments::parse(text).policy, Settings::DEFAULT);
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
    values_out_of_range_are_refused_and_the_default_is_kept,
    sizes_have_suffixes,
    policy_is_set_by_name,
    the_last_of_a_key_counts,
    quotes_keep_blanks,
    nothing_before_the_mark_is_read,
    warnings_name_argument_and_values,
    an_unclosed_quote_is_named,
    many_warnings_are_survived,
}
