//! `tlb=PRESET[,KEY=VALUE…]`: the plugin `tools/tlbmodel`, and what it reports.
//!
//! The plugin is built when it is asked for: it is for the host, in the directory that `tools/run` builds the runner in. It writes a
//! line of JSON for each phase and for each contradiction that it finds into a file in `tlb` of the target directory.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use thiserror::Error;

use crate::guest::{End, Outcome};
use crate::symbols::Symbols;
use crate::words::Options;

/// How many times as long a boot may take with it.
pub const SLOWER: u32 = 10;

/// The plugin's file, which is not built then.
const PLUGIN: &str = "ASHLAR_TLBMODEL";

/// Names the report's file.
const OUT: &str = "out=";

/// Why it can't be used.
#[derive(Debug, Error)]
pub enum ModelError {
    /// QEMU 10.0 gives plugins wrong numbers of cores there.
    #[error("tlb= with icount=on wants one core")]
    Turns,
    /// It was not built.
    #[error("the plugin tlbmodel can't be built: {0}")]
    Build(String),
    /// Its files can't be written.
    #[error("{}: {error}", path.display())]
    File {
        /// Where to.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// The model, for one boot.
#[derive(Debug)]
pub struct Model {
    plugin: PathBuf,
    /// Its own words.
    words: String,
    /// Arguments for QEMU beside it.
    memory: Vec<OsString>,
    out: PathBuf,
    check: bool,
}

/// Boots of this process.
static BOOTS: AtomicUsize = AtomicUsize::new(0);

/// Where the plugin is, once it was built.
static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);

impl Model {
    /// What `options` ask for of it, with reports in `directory`.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn new(options: &Options, directory: &Path, elf: &Path, attached: bool) -> Result<Option<Self>, ModelError> {
        let Some(words) = &options.tlb else { return Ok(None) };
        if options.icount && options.cores_at_start() > 1 {
            return Err(ModelError::Turns);
        }
        let plugin = plugin()?;
        fs::create_dir_all(directory).map_err(|error| ModelError::File { path: directory.into(), error })?;
        let number = BOOTS.fetch_add(1, Ordering::Relaxed);
        let name = elf.file_stem().unwrap_or_default().to_string_lossy();
        // Tests have a hash in their names, and several boots.
        let name = match name.rsplit_once('-') {
            Some((name, _)) if !attached => format!("{name}.{number}.jsonl"),
            _ => format!("{name}.jsonl"),
        };
        Ok(Some(Self {
            plugin,
            words: plugin_words(words),
            memory: memory(words, options.memory.unwrap_or(1 << 30)),
            // Boots side by side have a file each.
            out: keys(words).find_map(|key| key.strip_prefix(OUT)).map_or_else(|| directory.join(name), PathBuf::from),
            check: words.split(',').any(|word| word == "check=1"),
        }))
    }

    /// QEMU's arguments for it.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut plugin = self.plugin.clone().into_os_string();
        plugin.push(format!(",{},out=", self.words));
        plugin.push(&self.out);
        let mut arguments = vec!["-plugin".into(), plugin];
        arguments.extend(self.memory.iter().cloned());
        arguments
    }

    /// Shows what it has reported; a boot in which something contradicts the tables has not ended well.
    pub fn conclude(&self, outcome: &mut Outcome, attached: bool, symbols: impl Fn() -> Option<Symbols>) {
        let lines: Vec<Value> = match fs::read_to_string(&self.out) {
            Ok(text) => text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
            Err(error) => {
                outcome.end = End::None(format!("the TLB model wrote nothing: {}: {error}", self.out.display()));
                return;
            }
        };
        let mut text = String::new();
        let (mut symbols, mut loaded) = (symbols, None);
        for line in &lines {
            if let Some(finding) = line.get("finding") {
                let pc = text_of(line, "pc");
                let place = loaded.get_or_insert_with(&mut symbols).as_ref();
                let place = place.and_then(|symbols| symbols.describe(&format!("    pc {pc}"))).unwrap_or_default();
                text += &format!(
                    "tlb: {}: {} of {} on core {}: held {}, tables {}, pc {pc} {place}\n",
                    finding.as_str().unwrap_or_default(),
                    text_of(line, "access"),
                    text_of(line, "va"),
                    number(line, &["core"]),
                    text_of(line, "held"),
                    text_of(line, "tables"),
                );
            } else {
                text += &readable(line);
            }
        }
        if attached {
            eprint!("{text}");
            eprintln!("tlb: as JSON in {}", self.out.display());
        } else {
            outcome.said += &text;
        }
        let wrong = if self.check { wrong(&lines) } else { None };
        if let (Some(wrong), End::Status(_) | End::Stopped) = (wrong, &outcome.end) {
            outcome.end = End::None(wrong);
        }
    }
}

/// What no boot may have, if there is any.
fn wrong(lines: &[Value]) -> Option<String> {
    // Phases are zeroed at their beginnings: findings are not.
    let found = lines.iter().any(|line| line.get("finding").is_some());
    let most = |key| lines.iter().map(|line| number(line, &[key])).max().unwrap_or(0);
    let (stale, fails) = (most("stale"), most("walk_fail"));
    (found || stale + fails != 0).then(|| {
        format!("the TLB model has {stale} hits that the tables contradict and {fails} walks that found nothing")
    })
}

fn keys(words: &str) -> impl Iterator<Item = &str> {
    words.split(',')
}

/// As the plugin has them: the first word is the preset, and it counts from the start unless it is told otherwise.
fn plugin_words(words: &str) -> String {
    let kept: Vec<&str> = keys(words).filter(|key| !key.starts_with(OUT)).collect();
    let mut all = format!("preset={}", kept.join(","));
    if !words.split(',').any(|word| word.starts_with("start=")) {
        all += ",start=boot";
    }
    all
}

/// `phys=map` is for QEMU without the symbol that the plugin reads memory by: it wants RAM in a file.
fn memory(words: &str, bytes: u64) -> Vec<OsString> {
    if !words.split(',').any(|word| word == "phys=map") {
        return Vec::new();
    }
    let backend = format!("memory-backend-memfd,id=tlb-ram,size={}K,share=on", bytes >> 10);
    ["-object", &backend, "-machine", "memory-backend=tlb-ram"].map(Into::into).into()
}

fn plugin() -> Result<PathBuf, ModelError> {
    if let Some(path) = std::env::var_os(PLUGIN) {
        return Ok(path.into());
    }
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = root.join("target/tools");
    let manifest = root.join("tools/tlbmodel/Cargo.toml");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--release", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(&target);
    let ended = cargo.status().map_err(|error| ModelError::Build(error.to_string()))?;
    if !ended.success() {
        return Err(ModelError::Build(ended.to_string()));
    }
    let path = target.join("release/libtlbmodel.so");
    let path = path.canonicalize().map_err(|error| ModelError::File { path, error })?;
    *built = Some(path.clone());
    Ok(path)
}

/// One phase for people.
fn readable(line: &Value) -> String {
    let count = |keys: &[&str]| number(line, keys);
    let per = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let mut text = format!(
        "tlb: {} on {}, {} instructions, {} core(s)\n",
        text_of(line, "tag"),
        text_of(line, "preset"),
        count(&["instructions"]),
        count(&["cores"])
    );
    let mut all = 0;
    for (side, name) in [("d", "data"), ("i", "code")] {
        let [accesses, l1, l2] = ["accesses", "l1_misses", "l2_misses"].map(|key| count(&[key, side]));
        all += accesses;
        text += &format!(
            "  {name}: {accesses} accesses, {l1} miss level 1 ({:.5}), {l2} walk ({:.5})\n",
            per(l1, accesses),
            per(l2, accesses)
        );
    }
    let walks = line.get("walks").and_then(Value::as_object).into_iter().flatten();
    let sizes: Vec<_> = walks
        .filter(|(size, _)| *size != "all")
        .map(|(size, walks)| format!("{walks} of {size} with {} reads", count(&["walk_accesses", size.as_str()])))
        .collect();
    let sizes = if sizes.is_empty() { "none".into() } else { sizes.join(", ") };
    text += &format!("  walks: {sizes}; the kernel's half {}\n", count(&["kernel", "walks", "all"]));
    let refills = ["address", "asid", "all"].map(|cause| count(&["refills", cause]));
    let tlbi = ["address", "range", "asid", "all"].map(|kind| count(&["tlbi", kind]));
    text += &format!(
        "  TLBI: {} by address, {} by range, {} by ASID, {} of all took {} entries; walked for again: {} after an address, {} after \
         an ASID, {} after all\n",
        tlbi[0],
        tlbi[1],
        tlbi[2],
        tlbi[3],
        count(&["tlbi", "removed"]),
        refills[0],
        refills[1],
        refills[2]
    );
    let cycles = count(&["estimate", "cycles"]);
    text += &format!(
        "  illustration: {cycles} cycles, {:.2} an access, with l2lat={} and wlat={}\n",
        per(cycles, all),
        count(&["estimate", "l2lat"]),
        count(&["estimate", "wlat"])
    );
    let odd = ["walk_fail", "walk_race", "stale", "suspects"].map(|key| (key, count(&[key])));
    for (key, value) in odd.iter().filter(|(_, value)| *value != 0) {
        text += &format!("  {key}: {value}\n");
    }
    text
}

fn number(line: &Value, keys: &[&str]) -> u64 {
    let found = keys.iter().try_fold(line, |value, key| value.get(key));
    found.and_then(Value::as_u64).unwrap_or(0)
}

fn text_of<'a>(line: &'a Value, key: &str) -> &'a str {
    line.get(key).and_then(Value::as_str).unwrap_or("none")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"tag":"pages","preset":"a72","cores":1,"instructions":70,"accesses":{"i":10,"d":4},
        "l1_misses":{"i":1,"d":3},"l2_misses":{"i":0,"d":2},"walks":{"all":2,"4K":2},"walk_accesses":{"all":5,"4K":5},
        "kernel":{"walks":{"all":1}},"refills":{"address":1,"asid":0,"all":0},
        "tlbi":{"address":3,"range":0,"asid":0,"all":0,"removed":1},
        "estimate":{"l2lat":7,"wlat":20,"cycles":140},"walk_fail":0,"walk_race":0,"stale":0,"suspects":0}"#;

    fn line(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_phase_in_words() {
        let text = readable(&line(LINE));
        for part in [
            "tlb: pages on a72, 70 instructions, 1 core(s)\n",
            "  data: 4 accesses, 3 miss level 1 (0.75000), 2 walk (0.50000)\n",
            "  walks: 2 of 4K with 5 reads; the kernel's half 1\n",
            "walked for again: 1 after an address",
            "140 cycles, 10.00 an access, with l2lat=7 and wlat=20\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("stale"));
    }

    #[test]
    fn what_no_boot_may_have() {
        assert_eq!(wrong(&[line(LINE)]), None);
        let stale = LINE.replace("\"stale\":0", "\"stale\":3");
        assert!(wrong(&[line(LINE), line(&stale)]).unwrap().contains("3 hits"));
        assert!(wrong(&[line(r#"{"finding":"moved"}"#), line(LINE)]).is_some());
    }

    #[test]
    fn words_for_the_plugin() {
        assert_eq!(plugin_words("a72"), "preset=a72,start=boot");
        assert_eq!(plugin_words("n1,check=1,start=hint"), "preset=n1,check=1,start=hint");
        assert_eq!(plugin_words("a72,out=/tmp/a,start=hint"), "preset=a72,start=hint");
        assert!(memory("a72", 1 << 30).is_empty());
        let backend = memory("a72,phys=map", 1 << 20);
        assert_eq!(backend[1], "memory-backend-memfd,id=tlb-ram,size=1024K,share=on");
    }

    #[test]
    fn turns_are_refused() {
        let options = Options { icount: true, cores: Some(2), tlb: Some("a72".into()), ..Options::default() };
        let refused = Model::new(&options, Path::new("/nowhere"), Path::new("k"), true);
        assert!(matches!(refused, Err(ModelError::Turns)));
    }
}
