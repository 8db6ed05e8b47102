//! The database's panics, kept in: it takes some damaged pages for a fault of its own.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
};

use redb::{Key, Table, TableDefinition, Value, WriteTransaction};

use super::store::Failure;

/// Lets the database work; where it finds a page that can't be one, it may panic. That is logged, and isn't printed as a panic.
pub(super) fn guarded<T, E: From<Failure>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| match IS_GUARDED.get() {
            true => tracing::error!("the log's database has given up: {panicked}"),
            false => others(panicked),
        }));
    });
    let was_guarded = IS_GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(was_guarded);
    done.map_err(|_| Failure::Corrupted("a page of it can't be read".to_owned()))?
}

/// What the database gave, whose end is no panic, or no second one: closing it works on pages that may be damaged, and takes locks that the
/// database may have had when it panicked over something else. Two panics at a time would end the process.
#[derive(Debug)]
pub(super) struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    pub(super) fn new(inner: T) -> Self {
        Self(Some(inner))
    }
}

impl<T> Deref for Contained<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect(THERE)
    }
}

impl<T> DerefMut for Contained<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(THERE)
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        let inner = self.0.take();
        // It is logged, and nothing that was acknowledged hangs on it.
        let _ = guarded(|| -> Result<(), Failure> {
            drop(inner);
            Ok(())
        });
    }
}

/// A table to be written.
pub(super) type Held<'t, K, V> = Contained<Table<'t, K, V>>;

/// Opens a table to be written.
pub(super) fn hold<'t, K: Key + 'static, V: Value + 'static>(
    transaction: &'t WriteTransaction,
    definition: TableDefinition<'static, K, V>,
) -> Result<Held<'t, K, V>, redb::TableError> {
    Ok(Contained::new(transaction.open_table(definition)?))
}

static HOOK: Once = Once::new();

thread_local! {
    /// This thread's panics are caught by [`guarded`].
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

const THERE: &str = "only dropping takes it";

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableDatabase, TypeName, backends::InMemoryBackend};

    use super::*;

    const GOOD: TableDefinition<'static, u64, u64> = TableDefinition::new("good");
    const GOOD_TOO: TableDefinition<'static, u64, u64> = TableDefinition::new("good too");
    const BAD: TableDefinition<'static, u64, Bad> = TableDefinition::new("bad");

    /// Panics where the database has its lock, as it does over a damaged page.
    #[derive(Debug)]
    struct Bad;

    impl Value for Bad {
        type SelfType<'a> = Self;
        type AsBytes<'a> = [u8; 0];

        fn fixed_width() -> Option<usize> {
            Some(0)
        }

        fn from_bytes<'a>(_: &'a [u8]) -> Self
        where
            Self: 'a,
        {
            Self
        }

        fn as_bytes<'a, 'b: 'a>(_: &'a Self::SelfType<'b>) -> [u8; 0]
        where
            Self: 'a,
        {
            []
        }

        fn type_name() -> TypeName {
            panic!("as over a damaged page")
        }
    }

    #[test]
    fn a_panic_while_tables_are_open_is_an_error_and_no_end_of_the_process() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let write = |value| {
            guarded(|| -> Result<(), Failure> {
                let transaction = database.begin_write()?;
                hold(&transaction, GOOD)?.insert(1, value)?;
                Ok(transaction.commit()?)
            })
        };
        write(1).unwrap();
        let panics = guarded(|| -> Result<(), Failure> {
            let transaction = database.begin_write()?;
            let (mut one, _two) = (hold(&transaction, GOOD)?, hold(&transaction, GOOD_TOO)?);
            one.insert(1, 2)?;
            hold(&transaction, BAD)?;
            Ok(())
        });
        assert!(matches!(panics, Err(Failure::Corrupted(_))), "{panics:?}");
        let read = || database.begin_read().unwrap().open_table(GOOD).unwrap().get(1).unwrap().unwrap().value();
        assert_eq!(read(), 1);
        write(3).unwrap();
        assert_eq!(read(), 3);
    }
}
