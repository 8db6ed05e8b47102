//! A connection's handle on its feed.

use std::{
    future::poll_fn,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use fanwire_protocol::{Matchers, Seq, message::Bye};

use super::{Form, LocalShard, outlet::Walked};
use crate::{
    auth::Pass,
    core::{ChangeError, FeedId, Item, Lease, Taken},
    telemetry::Transport,
};

/// A feed of this thread's shard. Dropping it closes the feed.
#[derive(Debug)]
pub struct Feed {
    shard: Rc<LocalShard>,
    id: FeedId,
    transport: Transport,
}

impl Feed {
    pub(super) fn new(shard: Rc<LocalShard>, id: FeedId, transport: Transport) -> Self {
        shard.counters().feed_begins(transport);
        Self { shard, id, transport }
    }

    /// Takes up to `items_max` items; pending while there is none. [`Taken::Ended`] comes with the last items, or alone.
    pub fn poll_take(&self, cx: &mut Context<'_>, items_max: usize, out: &mut Vec<Item>) -> Poll<Taken> {
        let (id, now, before) = (self.id, self.shard.now(), out.len());
        let taken = self.shard.with_core(|core| core.take(id, items_max, now, out));
        if out.len() == before && taken != Taken::Ended {
            self.shard.set_waker(id, cx.waker());
            return Poll::Pending;
        }
        self.shard.counters().taken(self.transport, &out[before..]);
        Poll::Ready(taken)
    }

    /// From now on `outlet` is given what is committed, on the walk over the feeds, and tells its task itself of everything else: wakers that are
    /// left here are forgotten.
    pub(super) fn deliver_to(&self, outlet: Weak<dyn Walked>) {
        self.shard.set_outlet(self.id, outlet);
    }

    /// Takes up to `items_max` items, waiting for at least one.
    pub async fn take(&self, items_max: usize, out: &mut Vec<Item>) -> Taken {
        poll_fn(|cx| self.poll_take(cx, items_max, out)).await
    }

    /// Items as one piece, if they are all events: the same for all feeds of the shard that get the same. `None` where they aren't, or `join`, which
    /// makes it where nobody has got it lately, gives none.
    pub fn joined(&self, form: Form, items: &[Item], join: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        self.shard.joined().piece(form, items, join)
    }

    /// Resolves when the feed was ended because nothing was taken from it for too long: whoever waits for its peer to read
    /// should give up.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.shard.set_waker(self.id, cx.waker());
        if self.shard.with_core(|core| core.is_cut(self.id)) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ends the feed with a bye, behind what waits in it.
    pub fn end(&self, bye: Bye) {
        self.shard.with_core(|core| core.end(self.id, bye));
    }

    /// Whether the feed has ended, though its reader may not know yet.
    pub fn is_over(&self) -> bool {
        self.shard.with_core(|core| core.is_over(self.id))
    }

    /// Goes on with another pass: other rights, and another end; see [`crate::core::Shard::authorize`].
    pub fn authorize(&self, request_id: u64, pass: Arc<Pass>, lease: Option<Lease>) -> Result<Seq, ChangeError> {
        let (now, rights) = (self.shard.now(), pass.feed_rights());
        let from = self.shard.with_core(|core| core.authorize(self.id, request_id, (rights, lease), now))?;
        self.shard.renewed(self.id, pass);
        Ok(from)
    }

    /// Changes the matchers; see [`crate::core::Shard::change`].
    pub fn change(&self, request_id: u64, edit: impl FnOnce(&mut Matchers)) -> Result<Seq, ChangeError> {
        let mut changed = None;
        let edit = |matchers: &mut Matchers| {
            edit(matchers);
            changed = Some(matchers.clone());
        };
        let from = self.shard.with_core(|core| core.change(self.id, request_id, edit))?;
        if let Some(matchers) = changed {
            self.shard.rematched(self.id, &matchers);
        }
        Ok(from)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let how = self.shard.with_core(|core| core.close(self.id));
        self.shard.counters().feed_ends(self.transport, how);
        self.shard.forget(self.id);
    }
}
