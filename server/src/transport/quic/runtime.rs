//! What quinn runs on.

use std::{io, net::UdpSocket, pin::Pin, sync::Arc, time::Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, TokioRuntime};

use crate::fanout::Newcomer;

/// tokio, but for the tasks of connections that are being set up: those pass the turnstile of their shard.
#[derive(Debug)]
pub(super) struct Runtime;

impl quinn::Runtime for Runtime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        match Newcomer::beginning() {
            Some(newcomer) => TokioRuntime.spawn(Box::pin(newcomer.gate(task))),
            None => TokioRuntime.spawn(task),
        }
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
