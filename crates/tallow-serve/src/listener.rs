//! Connections: as many as are allowed, none that holds a place without speaking, and an orderly end.

use crate::config::Limits;
use crate::http::{App, to_socket};
use crate::metrics::Metrics;
use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep};
use tower::Service;

/// The answer to a connection beyond the limit.
const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 48\r\n\
                    retry-after: 1\r\nconnection: close\r\n\r\n{\"error\":\"too many connections; try again soon\"}";

/// The wait after an error of the system, such as too many open files.
const REST: Duration = Duration::from_millis(50);

/// Accepts connections until `stop`, then waits for the requests at hand. Returns how many were cut off.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    app: Arc<App>,
    stop: impl Future<Output = ()>,
) -> usize {
    let limits = app.config.limits.clone();
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            sleep(REST).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            app.metrics.connections_refused.inc();
            tokio::spawn(refuse(stream));
            continue;
        };
        // Answers are small, and clients wait for them.
        let _ = stream.set_nodelay(true);
        app.metrics.connections.inc();
        let place = Arc::new(Place {
            metrics: app.metrics.clone(),
            _permit: place,
            _open: app.stop.subscribe(),
        });
        let held = place.clone();
        let connection = connection(&limits).serve_connection(
            TokioIo::new(Hasty::new(stream, Duration::from_secs_f64(limits.write_seconds))),
            hyper::service::service_fn({
                let router = router.clone();
                move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
                    request.extensions_mut().insert(held.clone());
                    to_socket(&mut request);
                    router.clone().call(request)
                }
            }),
        );
        let mut end = app.stop.subscribe();
        tokio::spawn(async move {
            let mut connection = pin!(connection.with_upgrades());
            // A client that breaks off is no fault of the server.
            let is_open = tokio::select! {
                _ = &mut connection => false,
                _ = end.wait_for(|is_ending| *is_ending) => true,
            };
            drop(end);
            if is_open {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
            drop(place);
        });
    }
    drop(listener);
    app.stop.send_replace(true);
    // All connections hold a receiver.
    let time = Duration::from_secs_f64(limits.drain_seconds);
    match tokio::time::timeout(time, app.stop.closed()).await {
        Ok(()) => 0,
        Err(_) => app.stop.receiver_count(),
    }
}

/// The place of a connection among those that are allowed. A WebSocket keeps it beyond its request.
pub(crate) struct Place {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
    /// Tells the end of the server that something is open.
    _open: watch::Receiver<bool>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

fn connection(limits: &Limits) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs_f64(limits.head_seconds))
        .max_buf_size(limits.head_bytes)
        .half_close(false)
        .keep_alive(true);
    builder
}

async fn refuse(mut stream: TcpStream) {
    let answer = async {
        stream.write_all(FULL.as_bytes()).await?;
        stream.shutdown().await
    };
    // Whoever does not listen need not be told.
    let _ = tokio::time::timeout(Duration::from_secs(1), answer).await;
}

/// A stream whose writing fails after some time without progress.
struct Hasty {
    stream: TcpStream,
    time: Duration,
    /// Set while the other side takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Hasty {
    fn new(stream: TcpStream, time: Duration) -> Self {
        Self {
            stream,
            time,
            waiting: None,
        }
    }

    fn timed<T>(&mut self, context: &mut Context, written: Poll<std::io::Result<T>>) -> Poll<std::io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let time = self.time;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + time)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(std::io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Hasty {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Hasty {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.timed(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<std::io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.timed(context, closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_has_its_length() {
        let (_, body) = FULL.split_once("\r\n\r\n").unwrap();
        assert!(
            FULL.contains(&format!("content-length: {}\r\n", body.len())),
            "{}",
            body.len()
        );
    }
}
