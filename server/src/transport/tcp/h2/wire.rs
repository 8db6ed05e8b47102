//! The stream under a connection, which h2 and a feed write to.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    credit::Credit,
    frames::{self, Frames, Head},
    signals::Signals,
};

/// A stream that tells what it waits for, and that frames can be written to past h2.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    signals: Arc<Signals>,
    credit: Rc<Credit>,
    /// Where in its frames the client is, and h2.
    read: Frames,
    written: Frames,
    /// How many heads of answers h2 has written.
    heads: u64,
    /// How much comes of h2 that isn't written.
    counted: usize,
    /// What the stream didn't take of the last frame that was written past h2.
    rest: BytesMut,
    /// What h2 reads next, as if the client had sent it.
    returned: SmallVec<[u8; 2 * frames::WINDOW_UPDATE_BYTES]>,
    failed: bool,
}

/// The wire as h2 has it.
#[derive(Debug)]
pub(super) struct Told<S>(pub(super) Rc<RefCell<Wire<S>>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, signals: Arc<Signals>) -> Self {
        Self {
            stream,
            signals,
            credit: Rc::default(),
            read: Frames::new(frames::PREFACE_BYTES),
            written: Frames::new(0),
            heads: 0,
            counted: 0,
            rest: BytesMut::new(),
            returned: SmallVec::new(),
            failed: false,
        }
    }

    pub(super) fn credit(&self) -> &Rc<Credit> {
        &self.credit
    }

    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether a frame may be written past h2. Not while the client has sent half a frame: if that says that it takes less from now on, h2
    /// has yet to know.
    pub(super) fn is_free(&self) -> bool {
        self.read.is_between() && self.written.is_between() && self.counted == 0 && self.rest.is_empty()
    }

    /// Writes a frame of data past h2, for which there is credit. What the stream doesn't take is kept, and comes before anything else.
    pub(super) fn write_past(&mut self, cx: &mut Context<'_>, stream: u32, text: &[u8]) -> io::Result<()> {
        debug_assert!(self.is_free());
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.credit.spend(text.len());
        let head = Head::data(stream, text.len()).bytes();
        let frame = [IoSlice::new(&head), IoSlice::new(text)];
        let taken = match Pin::new(&mut self.stream).poll_write_vectored(cx, &frame) {
            Poll::Ready(taken) => taken.inspect_err(|_| self.failed = true)?,
            Poll::Pending => 0,
        };
        if taken < head.len() + text.len() {
            self.rest.extend_from_slice(&head[taken.min(head.len())..]);
            self.rest.extend_from_slice(&text[taken.saturating_sub(head.len())..]);
        }
        match self.poll_flush(cx) {
            Poll::Ready(flushed) => flushed.inspect_err(|_| self.failed = true),
            Poll::Pending => Ok(()),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.signals.is_paused() {
            return Poll::Pending;
        }
        if self.read.is_between()
            && self.returned.is_empty()
            && let Some((stream, bytes)) = self.credit.take_returned()
        {
            self.returned.extend(frames::window_update(stream, bytes));
            self.returned.extend(frames::window_update(0, bytes));
        }
        if !self.returned.is_empty() {
            let given = self.returned.len().min(buf.remaining());
            buf.put_slice(&self.returned[..given]);
            self.returned.drain(..given);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.signals.has_read(&read);
        ready!(read)?;
        let mut new = &buf.filled()[before..];
        while !new.is_empty() {
            // It may take less from now on than was counted.
            if let Some(head) = self.read.next(&mut new)
                && (head.kind, head.flags & frames::ACK) == (frames::SETTINGS, 0)
            {
                self.credit.give_back();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(cx))?;
        let all = bufs.iter().map(|buf| buf.len()).sum();
        let before = if self.counted > 0 { 0 } else { self.before_counted(bufs).unwrap_or(all) };
        if self.counted > 0 {
            let taken = self.counted.min(all);
            self.counted -= taken;
            return Poll::Ready(Ok(taken));
        }
        let taken = if before == all {
            ready!(self.told(|stream| stream.poll_write_vectored(cx, bufs)))?
        } else {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &buf[..before.min(buf.len())]);
            ready!(self.told(|stream| stream.poll_write(cx, first)))?
        };
        let mut left = taken;
        for buf in bufs {
            let mut part = &buf[..left.min(buf.len())];
            left -= part.len();
            while !part.is_empty() {
                let head = self.written.next(&mut part);
                self.heads += u64::from(head.is_some_and(|head| head.kind == frames::HEADERS));
            }
        }
        Poll::Ready(Ok(taken))
    }

    /// How much comes before the next frame that is counted and not written, if there is one. That is what the wire goes on with, if nothing
    /// does.
    fn before_counted(&mut self, bufs: &[IoSlice<'_>]) -> Option<usize> {
        if !self.credit.is_coming() {
            return None;
        }
        let (mut frames, mut before) = (self.written, 0);
        for buf in bufs {
            let mut rest = &buf[..];
            while !rest.is_empty() {
                let Some(head) = frames.next(&mut rest) else { continue };
                if head.kind != frames::DATA || !self.credit.is_asked_by(head.stream) {
                    continue;
                }
                // Heads come whole.
                let before = before + buf.len() - rest.len() - frames::HEAD_BYTES;
                if before == 0 {
                    self.counted = frames::HEAD_BYTES + head.payload_bytes;
                    if self.credit.counted(head.payload_bytes) {
                        self.signals.wake();
                    }
                }
                return Some(before);
            }
            before += buf.len();
        }
        None
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        while !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let taken = self.told(|stream| stream.poll_write(cx, &rest));
            self.rest = rest;
            match ready!(taken)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.rest.advance(taken),
            }
        }
        if self.rest.capacity() > 0 {
            self.rest = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        self.told(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        self.told(|stream| stream.poll_shutdown(cx))
    }

    fn told<T>(&mut self, write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream));
        self.signals.has_written(written.is_pending());
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Told<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_shutdown(cx)
    }
}
