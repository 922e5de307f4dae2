//! Single parts of `bench`, which measures the memory manager from inside.

use crate::guest::cargo_run;
use crate::output::Output;
use anyhow::{Context, Result, ensure};
use std::process::Stdio;

/// What is booted: a part, and the kernel's words.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub name: &'a str,
    pub words: &'a [&'a str],
}

impl Part<'_> {
    /// Boots it where instructions are counted.
    pub fn exact(&self) -> Result<Output> {
        Ok(Output::read(&self.boot(&["icount=on"])?, false))
    }

    /// Boots it, on the machine that `machine` says; returns what it printed.
    pub fn boot(&self, machine: &[&str]) -> Result<String> {
        let output = cargo_run("bench")
            .args(["memory=1G", "timeout=600"])
            .args(machine)
            .args(self.words)
            .arg(format!("part={}", self.name))
            .stdin(Stdio::null())
            .output()
            .context("cargo run")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "bench {} {:?} ended with {}:\n{text}", self.name, self.words, output.status);
        Ok(text)
    }
}
