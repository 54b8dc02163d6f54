//! Those for whom a pool has no worker and will have none soon: they are told so at once, instead of waiting until their
//! web server gives up.
//!
//! The service takes them out of the pool's own queue, the oldest first, when the master says so, and no more than the
//! queue is too long by at that moment: a worker that has become free meanwhile takes who is next. That the socket does
//! not block is up to the workers as well, who share it: so it is accepted from on a thread on which only this pool's
//! clients wait if one of its workers has changed that.

use super::desk::Desk;
use super::intake::Intake;
use super::orders::{LENGTH, Surplus};
use super::service::Hall;
use preforkd_sys::fds;
use preforkd_sys::queue::Gauge;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_fastcgi::{RequestResult, Requests};

/// Turned away at one time. For more, who waits goes on waiting.
pub const AT_ONCE: u32 = 256;

/// How long one may take to send its request, which may have a long body, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// In some seconds the worst may be over; a client that knows none may come back at once.
const ANSWER: &str = "Status: 503 Service Unavailable\r\nRetry-After: 5\r\n\
                      Content-Type: text/plain; charset=utf-8\r\n\r\n\
                      The server is too busy to answer now.\n";

impl Hall {
    /// Does what the master says, until it closes the channel.
    pub(super) async fn obey(self: &Arc<Self>, control: UnixStream, desks: &[Arc<Desk>]) {
        let (mut orders, done) = control.into_split();
        let done = Arc::new(done);
        let mut message = [0; LENGTH];
        while orders.read_exact(&mut message).await.is_ok() {
            let order = Surplus::decode(message);
            // Who is still at the last order does what there is to do.
            if let Some(desk) = desks.get(order.desk as usize)
                && !desk.turns_away.swap(true, Ordering::SeqCst)
            {
                let (hall, desk, done) = (Arc::clone(self), Arc::clone(desk), Arc::clone(&done));
                spawn_blocking(move || {
                    let count = hall.turn_away(&desk, order.count);
                    desk.turns_away.store(false, Ordering::SeqCst);
                    let told = Surplus { count, ..order };
                    if count > 0 {
                        // Only a count would be lost.
                        let _ = done.try_write(&told.encode());
                    }
                });
            }
        }
    }

    /// Turns away `count` connections to a pool at most. Returns how many there were.
    fn turn_away(&self, desk: &Arc<Desk>, count: u32) -> u32 {
        // The one of the pages is asked on another thread.
        let gauge = Gauge::new();
        let mut taken = 0;
        while taken < count
            && desk.has_surplus(&gauge)
            && let Ok(room) = Arc::clone(&self.surplus).try_acquire_owned()
            && let Some(Ok(connection)) = desk.requests().map(fds::accept)
        {
            taken += 1;
            if !self.lets_in(desk, &connection) {
                continue;
            }
            let desk = Arc::clone(desk);
            tokio::spawn(async move {
                // However it ends, there is nobody to tell.
                let _ = timeout(PATIENCE, refuse(connection, &desk)).await;
                drop(room);
            });
        }
        taken
    }

    fn lets_in(&self, desk: &Desk, connection: &OwnedFd) -> bool {
        if !desk.takes_requests_over_tcp() || desk.allowed.is_none() {
            return true;
        }
        let peer = connection.try_clone().map(StdTcpStream::from);
        let peer = peer.and_then(|stream| stream.peer_addr());
        peer.is_ok_and(|peer| self.admits(desk, peer.ip()))
    }
}

/// Answers one request, and leaves the connection to the workers if it is to be kept.
async fn refuse(connection: OwnedFd, desk: &Desk) -> io::Result<()> {
    let kept = connection.try_clone()?;
    let keep = if desk.takes_requests_over_tcp() {
        answer(TcpStream::from_std(StdTcpStream::from(connection))?).await?
    } else {
        answer(UnixStream::from_std(StdUnixStream::from(connection))?).await?
    };
    if keep && let Some(parking) = &desk.parking {
        parking.put(kept.as_fd())?;
    }
    Ok(())
}

/// Returns whether the connection is to be kept.
async fn answer(stream: impl AsyncRead + AsyncWrite + Send) -> io::Result<bool> {
    let (reader, mut writer) = tokio::io::split(Box::pin(stream));
    let mut intake = Intake::new(reader, 1, usize::MAX);
    let Some(taken) = intake.next(&mut writer).await? else {
        return Ok(false);
    };
    let mut buffered = BufWriter::new(&mut writer);
    let mut requests = Requests::new(taken.records.as_slice(), &mut buffered, 1, 1);
    let request = requests.next().await.map_err(io::Error::other)?;
    if let Some(request) = request {
        let answered = request.process(|request| async move {
            let written = request.get_stdout().write(ANSWER.as_bytes()).await;
            RequestResult::Complete(u32::from(written.is_err()))
        });
        answered.await.map_err(io::Error::other)?;
    }
    drop(requests);
    buffered.flush().await?;
    Ok(taken.keep && intake.is_idle())
}
