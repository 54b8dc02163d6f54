//! The status service: one unprivileged process that answers the pages of all pools on their `pm.status_listen`.
//!
//! Its clients are many and may be slow, and what they ask for is small: here, and nowhere else in preforkd, tokio is at
//! work, built after the fork. It also answers for pools that are too busy to ([`surplus`](super::surplus)). Each
//! connection has deadlines for what it sends and takes; when there are too many the oldest yields; what all the answers
//! on their way may take of memory is bounded.

use super::desk::Desk;
use super::intake::{BODY, Intake};
use super::surplus::AT_ONCE;
use preforkd_fastcgi::pairs::{Params, encode};
use preforkd_sys::queue::Gauge;
use preforkd_worker::status::{Answer, Page};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_fastcgi::{Request, RequestResult, Requests};

/// Connections at once.
const CONNECTIONS: u32 = 512;

/// KiB that all pages with workers on them may take while they are on their way. Others are small.
const ROOM: u32 = 32 * 1024;

/// KiB of what is told of one worker, at most.
const WORKER: u32 = 10;

/// How long a client may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long answers that are on their way may take when the service is to end.
const GRACE: Duration = Duration::from_millis(500);

/// How long it waits when it cannot accept, for want of descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is said at most that a client was turned away.
const REFUSALS_EVERY: Duration = Duration::from_secs(1);

/// What the parameters of a request are wanted for.
const PARAMETERS: [&str; 5] = [
    "SCRIPT_NAME",
    "PATH_INFO",
    "REQUEST_URI",
    "QUERY_STRING",
    "REQUEST_METHOD",
];

/// What php-fpm answers for any other path on this address.
const NOT_FOUND: &str = "Status: 404 Not Found\r\nContent-type: text/html; charset=UTF-8\r\n\r\n";

/// Answers until the other end of `control` is closed.
///
/// # Errors
/// There is no runtime, or a socket cannot be waited for.
pub fn serve(desks: Vec<Arc<Desk>>, control: StdUnixStream) -> io::Result<()> {
    control.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let served = runtime.block_on(async {
        let hall = Arc::new(Hall::default());
        let mut doors = Vec::new();
        for desk in &desks {
            if let Some(listener) = &desk.listener {
                let open = Door::new(listener, desk.is_unix)?;
                doors.push(tokio::spawn(open.keep(Arc::clone(desk), Arc::clone(&hall))));
            }
        }
        hall.obey(UnixStream::from_std(control)?, &desks).await;
        for door in doors {
            door.abort();
        }
        hall.empty().await;
        Ok(())
    });
    // Whoever accepts from a socket that blocks is not waited for.
    runtime.shutdown_background();
    served
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Hall {
    gauge: Gauge,
    room: Semaphore,
    /// One for each connection that is being turned away.
    pub(super) surplus: Arc<Semaphore>,
    /// Held by each connection that has come for an answer and has not got it. Waiting for all of it is waiting for them.
    served: Semaphore,
    /// The oldest first.
    connections: Mutex<VecDeque<AbortHandle>>,
    /// When a client was last turned away.
    refused: Mutex<Option<Instant>>,
}

impl Default for Hall {
    fn default() -> Self {
        Self {
            gauge: Gauge::new(),
            room: Semaphore::new(ROOM as usize),
            surplus: Arc::new(Semaphore::new(AT_ONCE as usize)),
            served: Semaphore::new(CONNECTIONS as usize),
            connections: Mutex::default(),
            refused: Mutex::default(),
        }
    }
}

impl Hall {
    /// Lets a connection in. If there are too many, the oldest has to go.
    fn enter(&self, connection: AbortHandle) {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if connections.len() >= CONNECTIONS as usize {
            connections.retain(|connection| !connection.is_finished());
        }
        if connections.len() >= CONNECTIONS as usize
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        connections.push_back(connection);
    }

    /// Whether a client may be answered. If not it is said, but not once a client, or clients could fill the log.
    pub(super) fn admits(&self, desk: &Desk, peer: IpAddr) -> bool {
        let allowed = desk.allowed.as_ref();
        if allowed.is_none_or(|allowed| allowed.admits(peer)) {
            return true;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_none_or(|last| last.elapsed() >= REFUSALS_EVERY) {
            *refused = Some(Instant::now());
            // Nobody is left to read it when the master has gone.
            let _ = writeln!(
                io::stderr(),
                "[pool {}] Connection disallowed: IP address '{}' has been dropped.",
                desk.pages.facts.pool,
                peer.to_canonical()
            );
        }
        false
    }

    /// Waits until everybody has an answer, or it takes too long.
    async fn empty(&self) {
        let answered = self.served.acquire_many(CONNECTIONS);
        let turned_away = self.surplus.acquire_many(AT_ONCE);
        let _ = timeout(GRACE, async { tokio::join!(answered, turned_away) }).await;
    }
}

/// A listening socket.
enum Door {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Door {
    fn new(listener: &OwnedFd, is_unix: bool) -> io::Result<Self> {
        let listener = listener.try_clone()?;
        Ok(if is_unix {
            Self::Unix(UnixListener::from_std(listener.into())?)
        } else {
            Self::Tcp(TcpListener::from_std(listener.into())?)
        })
    }

    /// Lets clients in, for ever.
    async fn keep(self, desk: Arc<Desk>, hall: Arc<Hall>) {
        loop {
            let (desk, inside) = (Arc::clone(&desk), Arc::clone(&hall));
            let task = match &self {
                Self::Unix(listener) => listener
                    .accept()
                    .await
                    .map(|(stream, _)| Some(tokio::spawn(attend(stream, desk, inside)))),
                Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                    hall.admits(&desk, peer.ip()).then(|| {
                        // It only costs time if it cannot be set.
                        let _ = stream.set_nodelay(true);
                        tokio::spawn(attend(stream, desk, inside))
                    })
                }),
            };
            match task {
                Ok(Some(task)) => hall.enter(task.abort_handle()),
                Ok(None) => {}
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

/// Answers the requests of one connection. However it ends, there is nobody to tell.
async fn attend(stream: impl AsyncRead + AsyncWrite + Send, desk: Arc<Desk>, hall: Arc<Hall>) {
    let (reader, mut writer) = tokio::io::split(Box::pin(stream));
    let mut intake = Intake::new(reader, CONNECTIONS, BODY);
    // From the moment it came; later, while it is kept, only from the moment its next request is there.
    let mut waits = hall.served.try_acquire().ok();
    while let Ok(Some(taken)) = intake.next(&mut writer).await {
        let _served = waits.take().or_else(|| hall.served.try_acquire().ok());
        let mut buffered = BufWriter::new(&mut writer);
        let answered = async {
            let mut requests = Requests::new(taken.records.as_slice(), &mut buffered, 1, 1);
            if let Some(request) = requests.next().await? {
                request
                    .process(|request| answer(request, &desk, &hall))
                    .await?;
            }
            drop(requests);
            buffered.flush().await?;
            Ok::<(), tokio_fastcgi::Error>(())
        };
        if !matches!(timeout(ANSWER, answered).await, Ok(Ok(()))) || !taken.keep {
            return;
        }
    }
}

async fn answer<W: AsyncWrite + Unpin>(
    request: Arc<Request<W>>,
    desk: &Desk,
    hall: &Hall,
) -> RequestResult {
    let mut pairs = Vec::new();
    for name in PARAMETERS {
        if let Some(value) = request.get_param(name) {
            encode(&mut pairs, name.as_bytes(), value);
        }
    }
    let params = Params::from_bytes(pairs);
    let page = desk.pages.asked(&params);
    let is_full = matches!(page, Some(Page::Status(query)) if query.full);
    let size = if is_full {
        WORKER * desk.board.slots()
    } else {
        0
    };
    let Ok(_room) = hall.room.acquire_many(size.min(ROOM)).await else {
        return RequestResult::Overloaded;
    };
    let answer = match page {
        Some(page) => desk
            .pages
            .page(page, &params, &desk.board, || desk.queue(&hall.gauge)),
        None => Answer {
            head: NOT_FOUND.to_owned(),
            body: "File not found.\n".to_owned(),
        },
    };
    let mut stdout = request.get_stdout();
    for part in [answer.head, answer.body] {
        // An empty record would end the stream.
        if !part.is_empty() && stdout.write(part.as_bytes()).await.is_err() {
            return RequestResult::Complete(1);
        }
    }
    RequestResult::Complete(0)
}
