//! Every feed of a hub, whichever shard it lives on.

use std::{fmt, rc::Rc, sync::Arc};

use fanwire_protocol::message::Bye;
use tokio::sync::{mpsc, oneshot};

use super::LocalShard;
use crate::auth::Pass;

/// Says whether what somebody was let in with was withdrawn since, and how its feed ends then.
#[derive(Clone)]
pub struct Gate(Arc<Check>);

type Check = dyn Fn(&Pass) -> Option<Bye> + Send + Sync;

/// Reaches every feed, from any thread.
#[derive(Debug, Clone)]
pub struct Feeds {
    shards: Arc<[mpsc::Sender<Command>]>,
}

pub(super) type Command = Box<dyn FnOnce(&Rc<LocalShard>) + Send>;

impl Gate {
    /// A gate that asks `check`.
    pub fn new(check: impl Fn(&Pass) -> Option<Bye> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    pub(super) fn check(&self, pass: &Pass) -> Option<Bye> {
        (self.0)(pass)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl Feeds {
    pub(super) fn new(shards: impl IntoIterator<Item = mpsc::Sender<Command>>) -> Self {
        Self { shards: shards.into_iter().collect() }
    }

    /// Ends the feeds whose holders wouldn't be let in any more, and says how many. One that opens meanwhile is checked as well.
    pub async fn recheck(&self) -> usize {
        self.each(|shard| shard.recheck()).await.into_iter().sum()
    }

    /// Ends a feed. False if there is none of this name.
    pub async fn end(&self, id: u128, bye: Bye) -> bool {
        self.each(move |shard| shard.end_feed(id, &bye)).await.contains(&true)
    }

    /// Does something on every shard. A shard that is gone does nothing.
    async fn each<T: Send + 'static>(&self, act: impl Fn(&Rc<LocalShard>) -> T + Clone + Send + 'static) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.shards.len());
        for shard in self.shards.iter() {
            let (answer, answered) = oneshot::channel();
            let act = act.clone();
            let command: Command = Box::new(move |shard| {
                let _ = answer.send(act(shard));
            });
            if shard.send(command).await.is_ok() {
                answers.push(answered);
            }
        }
        let mut done = Vec::with_capacity(answers.len());
        for answer in answers {
            done.extend(answer.await);
        }
        done
    }
}

/// The most commands that wait for a shard.
pub(super) const COMMANDS_MAX: usize = 16;
