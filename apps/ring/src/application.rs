use ashlar::memory::{self, MemoryError, Ring};
use ashlar::println;
use core::fmt;

/// Bytes of a message's length, before it.
const HEAD: usize = 4;
/// The longest message.
const LONGEST: usize = 3000;

pub enum Error {
    Memory(MemoryError),
    Argument(ashlar::arguments::Argument<'static>),
    /// A message is not what was sent.
    Wrong(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Memory(error) => error.fmt(f),
            Error::Argument(argument) => write!(f, "argument {argument}: there is messages=NUMBER"),
            Error::Wrong(number) => write!(f, "message {number} is not what was sent"),
        }
    }
}

impl From<MemoryError> for Error {
    fn from(error: MemoryError) -> Self {
        Error::Memory(error)
    }
}

/// The sender: the bytes of all messages, one after the other, in pieces.
struct Sender {
    messages: u32,
    number: u32,
    /// What of the message was sent.
    sent: usize,
    random: u64,
}

/// Bytes of message `number`.
fn length(number: u32) -> usize {
    number.wrapping_mul(2_654_435_761) as usize % LONGEST
}

/// Byte `at` of message `number`, its head included.
fn byte(number: u32, at: usize) -> u8 {
    match at {
        0..HEAD => (length(number) as u32).to_le_bytes()[at],
        _ => (number as usize + at * 7) as u8,
    }
}

impl Sender {
    /// Puts the next piece into `room`; returns its length.
    fn send(&mut self, room: &mut [u8]) -> usize {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let piece = room.len().min(1 + (self.random >> 33) as usize % 1500);
        for (count, place) in room[..piece].iter_mut().enumerate() {
            if self.number == self.messages {
                return count;
            }
            *place = byte(self.number, self.sent);
            self.sent += 1;
            if self.sent == HEAD + length(self.number) {
                (self.number, self.sent) = (self.number + 1, 0);
            }
        }
        piece
    }
}

/// The first message of `bytes`, if all of it is there.
fn first_message(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    rest.get(..u32::from_le_bytes(*head) as usize)
}

fn messages() -> Result<u32, Error> {
    ashlar::args().try_fold(100_000, |_, argument| match (argument.key, argument.value.map(str::parse)) {
        ("messages", Some(Ok(number))) => Ok(number),
        _ => Err(Error::Argument(argument)),
    })
}

pub fn main() -> Result<(), Error> {
    let messages = messages()?;
    let mut ring = Ring::new(2 << 20)?;
    let mut sender = Sender { messages, number: 0, sent: 0, random: 1 };
    let (mut received, mut bytes, mut over_the_end, mut place) = (0, 0, 0, 0);
    while received < messages {
        let count = sender.send(ring.room());
        ring.fill(count);
        while let Some(message) = first_message(ring.contents()) {
            let length = HEAD + message.len();
            if message.iter().zip(HEAD..).any(|(&found, at)| found != byte(received, at)) {
                return Err(Error::Wrong(received));
            }
            over_the_end += u32::from(place + length > ring.capacity());
            place = (place + length) % ring.capacity();
            ring.consume(length);
            received += 1;
            bytes += length;
        }
    }
    println!(
        "{received} messages, {bytes} bytes, each read where it lay; {over_the_end} of them over the end of the ring"
    );
    println!("the ring: {} KiB, in a block: {}", ring.capacity() / 1024, memory::is_huge(ring.room().as_ptr()));
    Ok(())
}
