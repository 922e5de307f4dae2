//! A hash table of records of one size in one piece of memory.

/// Bytes of a record: the key, how often it was written, and a value that both make.
pub const RECORD: usize = 64;
const VALUE: usize = RECORD - 16;

/// The first record is not one: it says how many writes there were.
const HEAD: usize = 1;

/// The table in `bytes`, which were zeros.
pub struct Table<B> {
    bytes: B,
    /// Places, a power of two.
    places: usize,
}

/// Bytes of a table for `records`: a third of it stays free.
pub fn bytes_for(records: usize) -> usize {
    ((records * 3 / 2).next_power_of_two() + HEAD) * RECORD
}

fn hash(key: u64) -> usize {
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize
}

/// Byte `at` of the value that `key` has after `writes`.
fn value_byte(key: u64, writes: u64, at: usize) -> u8 {
    (key ^ writes.wrapping_mul(31)).wrapping_add(at as u64 * 5) as u8
}

impl<B: AsRef<[u8]>> Table<B> {
    /// One for as many records as [`bytes_for`] was asked for.
    pub fn new(bytes: B, records: usize) -> Self {
        Table { bytes, places: (records * 3 / 2).next_power_of_two() }
    }

    fn word(&self, record: usize, word: usize) -> u64 {
        let bytes = &self.bytes.as_ref()[record * RECORD + word * 8..][..8];
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }

    fn value(&self, record: usize) -> &[u8] {
        &self.bytes.as_ref()[record * RECORD + RECORD - VALUE..][..VALUE]
    }

    /// Where `key` is, or would be.
    fn find(&self, key: u64) -> usize {
        let mut place = hash(key);
        loop {
            let record = HEAD + place % self.places;
            let found = self.word(record, 0);
            if found == key || found == 0 {
                return record;
            }
            place += 1;
        }
    }

    /// How often `key` was written; `None` if its value is not what was.
    pub fn get(&self, key: u64) -> Option<u64> {
        let record = self.find(key);
        let writes = self.word(record, 1);
        let is_right = |(at, &byte): (usize, &u8)| byte == value_byte(key, writes, at);
        (writes == 0 || self.value(record).iter().enumerate().all(is_right)).then_some(writes)
    }

    /// Writes there were, as the head says.
    pub fn writes(&self) -> u64 {
        self.word(0, 0)
    }

    /// Whether it is what it was at some moment: each value is its key's, and as many were written as the head says.
    pub fn is_consistent(&self) -> bool {
        let mut sum = 0;
        for record in HEAD..HEAD + self.places {
            let (key, writes) = (self.word(record, 0), self.word(record, 1));
            let is_right = |(at, &byte): (usize, &u8)| byte == value_byte(key, writes, at);
            if key != 0 && !self.value(record).iter().enumerate().all(is_right) {
                return false;
            }
            sum += writes;
        }
        sum == self.writes()
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Table<B> {
    fn set_word(&mut self, record: usize, word: usize, to: u64) {
        self.bytes.as_mut()[record * RECORD + word * 8..][..8].copy_from_slice(&to.to_le_bytes());
    }

    /// Writes the next value of `key`, which is not zero.
    pub fn put(&mut self, key: u64) {
        let record = self.find(key);
        let writes = self.word(record, 1) + 1;
        self.set_word(record, 0, key);
        self.set_word(record, 1, writes);
        let value = &mut self.bytes.as_mut()[record * RECORD + RECORD - VALUE..][..VALUE];
        value.iter_mut().enumerate().for_each(|(at, byte)| *byte = value_byte(key, writes, at));
        let all = self.writes() + 1;
        self.set_word(0, 0, all);
    }

    /// Its bytes' owner.
    pub fn owner(&self) -> &B {
        &self.bytes
    }
}
