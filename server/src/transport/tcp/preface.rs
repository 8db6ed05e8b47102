//! Tells HTTP/2 from HTTP/1 by its first bytes: in cleartext nothing else does. [RFC 9113 §3.3, §3.4]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// A stream with the bytes put back that were read to see what it is.
#[derive(Debug)]
pub(super) struct Sniffed<S> {
    head: Bytes,
    stream: S,
}

/// Reads until it is clear whether the client speaks HTTP/2.
pub(super) async fn sniff<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(Sniffed<S>, bool)> {
    let mut head = Vec::with_capacity(PREFACE.len());
    loop {
        let mut room = [0; PREFACE.len()];
        let read = stream.read(&mut room[..PREFACE.len() - head.len()]).await?;
        head.extend_from_slice(&room[..read]);
        let like = PREFACE.starts_with(&head);
        if read == 0 || !like || head.len() == PREFACE.len() {
            return Ok((Sniffed { head: head.into(), stream }, like && read > 0));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sniffed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.head.len().min(buf.remaining());
        buf.put_slice(&self.head[..count]);
        self.head.advance(count);
        if self.head.is_empty() {
            self.head = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sniffed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
