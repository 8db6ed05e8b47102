//! One connection, which is one session.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use quinn_proto::{Connection, Dir, Event, StreamEvent, StreamId};

use super::http3;
use crate::peers::quinn::Form;

/// What was published last: a post an entry, with all of its lines.
#[derive(Default)]
pub(super) struct Published {
    posts: VecDeque<Bytes>,
    /// The number of the first.
    first: u64,
}

pub(super) struct Session {
    pub(super) connection: Connection,
    /// It is among those that are to be driven.
    pub(super) stirred: bool,
    /// The entry of the timers that counts.
    pub(super) looked_at: Option<Instant>,
    step: Step,
}

enum Step {
    /// No request has come.
    Opening,
    /// Its head is being read.
    Asking(StreamId, Vec<u8>),
    Fed(Feed),
}

struct Feed {
    stream: StreamId,
    /// The post that comes next.
    next: u64,
    /// What the stream hasn't taken of the one before.
    rest: Bytes,
}

impl Published {
    pub(super) fn push(&mut self, post: Bytes) {
        if self.posts.len() == POSTS_MAX {
            self.posts.pop_front();
            self.first += 1;
        }
        self.posts.push_back(post);
    }

    /// The number of the newest post; of the first one, while there is none.
    fn newest(&self) -> u64 {
        self.first + (self.posts.len() as u64).saturating_sub(1)
    }

    /// A post with this number or, if it is gone, the first one after it; and the number of the next.
    fn from(&self, number: u64) -> Option<(Bytes, u64)> {
        let at = number.max(self.first);
        let post = self.posts.get((at - self.first) as usize)?;
        Some((post.clone(), at + 1))
    }
}

impl Session {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, stirred: true, looked_at: None, step: Step::Opening }
    }

    /// Does what follows from what has come.
    pub(super) fn take_note(&mut self, form: Form, published: &Published) {
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Connected => {
                    self.open(http3::settings());
                }
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                    if let (Step::Opening, Some(id)) = (&self.step, self.connection.streams().accept(Dir::Bi)) {
                        self.step = Step::Asking(id, Vec::new());
                        self.read(id, form, published);
                    }
                }
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                    while let Some(id) = self.connection.streams().accept(Dir::Uni) {
                        self.read(id, form, published);
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => self.read(id, form, published),
                Event::Stream(StreamEvent::Writable { .. }) => self.write(published),
                _ => {}
            }
        }
    }

    /// Gives the session what was published; whether it has one yet that takes it.
    pub(super) fn deliver(&mut self, published: &Published, datagrams: &[Bytes]) -> bool {
        if !matches!(self.step, Step::Fed(_)) {
            return false;
        }
        if datagrams.is_empty() {
            self.write(published);
        }
        for datagram in datagrams {
            // What doesn't fit takes the place of what is older, as it does in quinn.
            let _ = self.connection.datagrams().send(datagram.clone(), true);
        }
        true
    }

    /// Reads what has come on a stream: the head of the request, and the session is accepted once that is whole. Anything else is let go of,
    /// since what isn't read keeps the packet that it came in.
    fn read(&mut self, id: StreamId, form: Form, published: &Published) {
        let mut head = match &mut self.step {
            Step::Asking(request, head) if *request == id => Some(head),
            _ => None,
        };
        let mut stream = self.connection.recv_stream(id);
        if let Ok(mut chunks) = stream.read(true) {
            while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                if let Some(head) = &mut head {
                    head.extend_from_slice(&chunk.bytes);
                }
            }
            let _ = chunks.finalize();
        }
        let Some(head) = head.filter(|head| http3::is_whole(head)) else { return };
        if !http3::is_session(head) {
            let _ = self.connection.send_stream(id).reset(quinn_proto::VarInt::from_u32(0));
            return;
        }
        // A few bytes on a new connection always find room.
        let _ = self.connection.send_stream(id).write_chunks(&mut [http3::accepted()]);
        if let Some(stream) = self.open(http3::stream(id)) {
            self.step = Step::Fed(Feed { stream, next: published.newest(), rest: Bytes::new() });
            if form == Form::Stream {
                self.write(published);
            }
        }
    }

    /// A stream of our own, with what it begins with.
    fn open(&mut self, beginning: Bytes) -> Option<StreamId> {
        let id = self.connection.streams().open(Dir::Uni)?;
        let _ = self.connection.send_stream(id).write_chunks(&mut [beginning]);
        Some(id)
    }

    /// Writes what the stream takes.
    fn write(&mut self, published: &Published) {
        let Step::Fed(feed) = &mut self.step else { return };
        let mut stream = self.connection.send_stream(feed.stream);
        loop {
            if feed.rest.is_empty() {
                let Some((post, next)) = published.from(feed.next) else { return };
                (feed.rest, feed.next) = (post, next);
            }
            if stream.write_chunks(std::slice::from_mut(&mut feed.rest)).is_err() {
                return;
            }
        }
    }
}

/// More than a run has under way. Who is further behind has lost what is between.
const POSTS_MAX: usize = 1024;
