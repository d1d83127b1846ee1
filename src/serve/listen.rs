//! The port: taken before a job starts, so that who cannot have it hears so at once, and then served by
//! one thread with a small runtime of its own until the run has ended. Connections are bounded; who
//! does not say what it wants, or does not take the answer, is dropped after a while.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Sleep;

use super::{ServeError, Site, http};
use crate::job::Job;
use crate::wall;

/// How long a caller may take to say what it wants, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(30);
/// How long a caller may take nothing of what is sent to it.
const STALLED: Duration = Duration::from_secs(30);
/// How long what is being said may still take when the run has ended.
const GRACE: Duration = Duration::from_millis(500);
/// How long nobody is let in when the system has no more files.
const PAUSE: Duration = Duration::from_millis(100);
/// How often holds whose time is over are let go of.
const HOLDS: Duration = Duration::from_secs(1);
/// Connections besides those of subscribers.
const SPARE: usize = 256;
/// Threads that may wait for the disk.
const BLOCKING: usize = 2;

/// An address that is taken; nobody is answered yet.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

/// Takes the address that a job has set, if it has: process 0 the port itself, process `i` the one
/// that is higher by `i`. Port 0 is any free one.
///
/// # Errors
/// No such address on this host, a port that is taken, or one that others may call although there are
/// no tokens.
pub fn listen(job: &Job, process: usize) -> Result<Option<Listening>, ServeError> {
    let Some(setting) = &job.serve.address else {
        return Ok(None);
    };
    let wrong = |problem: String| ServeError::Address {
        address: setting.clone(),
        process,
        problem,
    };
    let found = setting
        .to_socket_addrs()
        .map_err(|error| wrong(error.to_string()))?;
    let addresses = found.map(|mut address| {
        let own = match address.port() {
            0 => 0,
            port => u16::try_from(process).ok()?.checked_add(port)?,
        };
        address.set_port(own);
        Some(address)
    });
    let addresses: Option<Vec<SocketAddr>> = addresses.collect();
    let addresses = addresses.ok_or_else(|| wrong("no port is so high".to_owned()))?;
    let open = |address: &SocketAddr| !address.ip().is_loopback();
    if job.serve.tokens.is_none() && addresses.iter().any(open) {
        return Err(wrong(
            "others may call it, and there are no serve.tokens".to_owned(),
        ));
    }
    let bind = || {
        let listener = TcpListener::bind(&addresses[..])?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Listening { listener, address })
    };
    let bound: io::Result<Listening> = bind();
    bound.map(Some).map_err(|error| wrong(error.to_string()))
}

impl Listening {
    /// At this address, whoever may call it.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn at(address: SocketAddr) -> io::Result<Listening> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Listening { listener, address })
    }

    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until [`Serving`] is dropped.
    ///
    /// # Errors
    /// No thread or runtime can be had.
    pub fn serve(self, site: Site) -> Result<Serving, ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING)
            .thread_name("serve")
            .build()
            .map_err(ServeError::Thread)?;
        let (end, ended) = oneshot::channel::<()>();
        let work = move || {
            runtime.block_on(answer_all(self.listener, Arc::new(site), ended));
            runtime.shutdown_timeout(GRACE);
        };
        let thread = std::thread::Builder::new().name("serve".into());
        let thread = thread.spawn(work).map_err(ServeError::Thread)?;
        Ok(Serving(Some((end, thread))))
    }
}

/// The thread that answers; dropped, it ends.
pub struct Serving(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}

async fn answer_all(listener: TcpListener, site: Arc<Site>, ended: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let holds = site.served.holds.clone();
    let expiring = tokio::spawn(async move {
        loop {
            tokio::time::sleep(HOLDS).await;
            holds.expire(wall::now());
        }
    });
    let most = site.limits.subscribers + SPARE;
    let router = http::router(site);
    let answering = pin!(accept_all(listener, router, most));
    // An error says that the other end was dropped, which is the end too.
    let _: Either<_, _> = select(answering, ended).await;
    expiring.abort();
}

async fn accept_all(listener: tokio::net::TcpListener, router: Router, most: usize) {
    let connections = Arc::new(Semaphore::new(most));
    loop {
        let Ok(place) = connections.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // One that has gone again harms nobody; without files for more, some must go first.
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let io = TokioIo::new(Patient::new(stream));
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD);
            // Whoever calls and goes away, or never says what it wants, harms nobody.
            let _ = http.serve_connection(io, service).await;
            drop(place);
        });
    }
}

/// A connection on which a write fails that nothing is taken of for a while.
struct Patient {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream) -> Patient {
        let stalled = None;
        Patient { stream, stalled }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, bytes) {
            self.stalled = None;
            return Poll::Ready(written);
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
