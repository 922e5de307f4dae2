//! A serial port, this process's alone for as long as it is open.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};
use serial2::SerialPort;
use thiserror::Error;

/// How long a read waits before it looks whether it is still wanted.
const READ: Duration = Duration::from_millis(50);

/// Why a port can't be used, and what can be done about it.
#[derive(Debug, Error)]
pub enum PortError {
    /// No such file.
    #[error("{0}: there is no such port: is the adapter plugged in? (ls /dev/serial/by-id names those there are)")]
    Missing(PathBuf),
    /// Not this user's.
    #[error("{0}: no permission to use this port: join its group (sudo usermod -aG dialout $USER) and log in anew")]
    Permission(PathBuf),
    /// A file of another kind.
    #[error("{0}: this is no serial port")]
    NoPort(PathBuf),
    /// Another program has it.
    #[error("{0}: this port is in use by another program, which would take half of what comes")]
    Used(PathBuf),
    /// All else.
    #[error("{port}: {error}")]
    Other {
        /// The port.
        port: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// An open port.
#[derive(Debug)]
pub struct Port {
    port: Arc<SerialPort>,
    reader: Option<(JoinHandle<()>, Arc<AtomicBool>)>,
}

impl Port {
    /// Opens the port at `path`, raw, 8N1 at `baud`; what was received before is dropped.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn open(path: &Path, baud: u32) -> Result<Self, PortError> {
        let name = || path.to_path_buf();
        let wrong = |error: io::Error| match (error.kind(), Errno::from_io_error(&error)) {
            (ErrorKind::NotFound, _) | (_, Some(Errno::NODEV | Errno::NXIO)) => PortError::Missing(name()),
            (ErrorKind::PermissionDenied, _) => PortError::Permission(name()),
            (_, Some(Errno::NOTTY | Errno::ISDIR)) => PortError::NoPort(name()),
            (_, Some(Errno::BUSY | Errno::WOULDBLOCK)) => PortError::Used(name()),
            _ => PortError::Other { port: name(), error },
        };
        let mut port = SerialPort::open(path, baud).map_err(wrong)?;
        flock(&port, FlockOperation::NonBlockingLockExclusive).map_err(|error| wrong(error.into()))?;
        ignore_modem(&port).map_err(wrong)?;
        port.set_read_timeout(READ).map_err(wrong)?;
        port.discard_buffers().map_err(wrong)?;
        Ok(Self { port: Arc::new(port), reader: None })
    }

    /// Drops what was received and not read.
    pub fn discard(&self) -> io::Result<()> {
        self.port.discard_input_buffer()
    }

    /// Gives what is received to `take`, from another thread; at last why no more can come. Ends when `take` wants no more.
    pub fn listen(&mut self, mut take: impl FnMut(io::Result<Vec<u8>>) -> bool + Send + 'static) {
        let (port, stop) = (Arc::clone(&self.port), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let received = match port.read(&mut buffer) {
                    Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                    Ok(length) => Ok(buffer[..length].to_vec()),
                    Err(error) => match error.kind() {
                        ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted => continue,
                        _ => Err(error),
                    },
                };
                let is_end = received.is_err();
                if !take(received) || is_end {
                    break;
                }
            }
        });
        self.reader = Some((reader, stop));
    }

    /// Where to write to, from any thread.
    pub fn writer(&self) -> impl Write + Send + 'static {
        Writer(Arc::clone(&self.port))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some((reader, stop)) = self.reader.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = reader.join();
        }
        // A writer may have it open for a moment longer.
        let _ = flock(&self.port, FlockOperation::Unlock);
    }
}

/// Three wires have no carrier to lose.
fn ignore_modem(port: &SerialPort) -> io::Result<()> {
    let mut settings = tcgetattr(port)?;
    settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    Ok(tcsetattr(port, OptionalActions::Now, &settings)?)
}

/// The port's sending half: it has no time limit, for whoever writes has nothing else to do.
struct Writer(Arc<SerialPort>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if [ErrorKind::TimedOut, ErrorKind::WouldBlock].contains(&error.kind()) => {
                Err(ErrorKind::Interrupted.into())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
