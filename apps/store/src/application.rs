use crate::latency::Latencies;
use crate::table::{Table, bytes_for};
use alloc::format;
use ashlar::memory::{self, Mapping, MemoryError, Snapshot};
use ashlar::output::{File, FileError};
use ashlar::thread::{self, JoinHandle};
use ashlar::{println, time};
use core::fmt;
use core::time::Duration;

pub enum Error {
    Memory(MemoryError),
    Argument(ashlar::arguments::Argument<'static>),
    /// A value is not what was written.
    Wrong(u64),
    /// What was saved is not what the store was at any moment.
    Inconsistent(u32),
    File(FileError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Memory(error) => error.fmt(f),
            Error::Argument(argument) => {
                write!(f, "argument {argument}: there are records=NUMBER, requests=NUMBER, saves=NUMBER")
            }
            Error::Wrong(key) => write!(f, "the value of key {key} is not what was written"),
            Error::Inconsistent(save) => write!(f, "save {save} is not what the store was at any moment"),
            Error::File(error) => error.fmt(f),
        }
    }
}

impl From<MemoryError> for Error {
    fn from(error: MemoryError) -> Self {
        Error::Memory(error)
    }
}

struct Options {
    records: usize,
    requests: usize,
    saves: usize,
}

impl Options {
    fn read() -> Result<Self, Error> {
        let mut options = Options { records: 200_000, requests: 1_000_000, saves: 4 };
        for argument in ashlar::args() {
            let number = argument.value.and_then(|value| value.parse().ok()).filter(|&number| number > 0);
            match (argument.key, number) {
                ("records", Some(number)) => options.records = number,
                ("requests", Some(number)) => options.requests = number,
                ("saves", Some(number)) => options.saves = number,
                _ => return Err(Error::Argument(argument)),
            }
        }
        Ok(options)
    }
}

/// The table's memory.
struct Memory(Mapping);

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl AsMut<[u8]> for Memory {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_slice()
    }
}

/// Checks what `instant` shows, and writes it to the host, if that takes files. Returns how many writes are in it.
fn save(number: u32, instant: Snapshot, records: usize) -> Result<u64, Error> {
    let table = Table::new(&instant[..], records);
    if !table.is_consistent() {
        return Err(Error::Inconsistent(number));
    }
    match File::create(&format!("store.{number}")) {
        Ok(mut file) => instant.chunks(1 << 20).try_for_each(|chunk| file.write(chunk)).map_err(Error::File)?,
        Err(FileError::NoDirectory | FileError::NoHost) => {}
        Err(error) => return Err(Error::File(error)),
    }
    Ok(table.writes())
}

/// A save under way, and what it is of.
struct Saving {
    thread: JoinHandle<Result<u64, Error>>,
    writes: u64,
    pages_copied: u64,
}

impl Saving {
    fn begin(number: u32, table: &Table<Memory>, records: usize, pause: &mut Duration) -> Result<Self, Error> {
        let pages_copied = copied();
        let start = time::now();
        let instant = table.owner().0.snapshot()?;
        *pause = (*pause).max(start.elapsed());
        let thread = thread::spawn(move || save(number, instant, records));
        Ok(Saving { thread, writes: table.writes(), pages_copied })
    }

    fn end(self, number: u32) -> Result<(), Error> {
        let saved = self.thread.join().unwrap_or(Err(Error::Inconsistent(number)))?;
        if saved != self.writes {
            return Err(Error::Inconsistent(number));
        }
        let pages = copied() - self.pages_copied;
        println!("save {number}: the store after {saved} writes; {pages} pages were copied meanwhile");
        Ok(())
    }
}

fn copied() -> u64 {
    memory::counter("snapshot_pages_copied").unwrap_or(0)
}

pub fn main() -> Result<(), Error> {
    let Options { records, requests, saves } = Options::read()?;
    let mapping = memory::map(bytes_for(records))?;
    let mut table = Table::new(Memory(mapping), records);
    let key = |number: usize| 1 + number as u64;
    (0..records).for_each(|number| table.put(key(number)));
    println!(
        "{records} records in {} KiB, in blocks: {}",
        bytes_for(records) / 1024,
        memory::is_huge(table.owner().as_ref())
    );

    let (mut idle, mut busy, mut pause) = (Latencies::default(), Latencies::default(), Duration::ZERO);
    let (mut saving, mut begun): (Option<Saving>, u32) = (None, 0);
    let mut random = 1_u64;
    for request in 0..requests {
        if request % (requests / saves).max(1) == 0 && saving.is_none() {
            begun += 1;
            saving = Some(Saving::begin(begun, &table, records, &mut pause)?);
        }
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let key = key((random >> 33) as usize % records);
        let start = time::now();
        if request % 2 == 0 {
            table.put(key);
        } else {
            table.get(key).ok_or(Error::Wrong(key))?;
        }
        if saving.is_some() { &mut busy } else { &mut idle }.add(start.elapsed());
        if let Some(done) = saving.take_if(|saving| saving.thread.is_finished()) {
            done.end(begun)?;
        }
    }
    if let Some(last) = saving {
        last.end(begun)?;
    }
    if !table.is_consistent() {
        return Err(Error::Inconsistent(0));
    }
    println!("while it saved   {busy}");
    println!("otherwise        {idle}");
    println!("longest pause for a snapshot: {pause:?}; in blocks again: {}", memory::is_huge(table.owner().as_ref()));
    Ok(())
}
