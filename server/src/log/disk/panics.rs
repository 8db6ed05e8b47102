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

/// A table to be written, whose end is no second panic. To close it the database takes a lock, which it had when it panicked over another
/// table, and panics once more: two at a time would end the process.
pub(super) struct Held<'t, K: Key + 'static, V: Value + 'static>(Option<Table<'t, K, V>>);

impl<'t, K: Key + 'static, V: Value + 'static> Held<'t, K, V> {
    pub(super) fn open(
        transaction: &'t WriteTransaction,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<Self, redb::TableError> {
        Ok(Self(Some(transaction.open_table(definition)?)))
    }
}

impl<'t, K: Key + 'static, V: Value + 'static> Deref for Held<'t, K, V> {
    type Target = Table<'t, K, V>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect(THERE)
    }
}

impl<K: Key + 'static, V: Value + 'static> DerefMut for Held<'_, K, V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.0.as_mut().expect(THERE)
    }
}

impl<K: Key + 'static, V: Value + 'static> Drop for Held<'_, K, V> {
    fn drop(&mut self) {
        // Its transaction can't be committed any more then, so nothing is lost by it.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.0.take())));
    }
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
                Held::open(&transaction, GOOD)?.insert(1, value)?;
                Ok(transaction.commit()?)
            })
        };
        write(1).unwrap();
        let panics = guarded(|| -> Result<(), Failure> {
            let transaction = database.begin_write()?;
            let (mut one, _two) = (Held::open(&transaction, GOOD)?, Held::open(&transaction, GOOD_TOO)?);
            one.insert(1, 2)?;
            Held::open(&transaction, BAD)?;
            Ok(())
        });
        assert!(matches!(panics, Err(Failure::Corrupted(_))), "{panics:?}");
        let read = || database.begin_read().unwrap().open_table(GOOD).unwrap().get(1).unwrap().unwrap().value();
        assert_eq!(read(), 1);
        write(3).unwrap();
        assert_eq!(read(), 3);
    }
}
