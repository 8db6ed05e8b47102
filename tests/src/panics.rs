//! Panics on a hub's threads.

use std::sync::{Mutex, Once};

/// Notes every panic on a hub's threads from now on. One there ends only the connection, and would go unseen.
pub fn watch_for_panics() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some_and(|name| name.starts_with("shard-")) {
                PANICS.lock().expect("no panic here").push(info.to_string());
            }
            hook(info);
        }));
    });
}

/// Those that were noted since somebody asked last.
pub fn panics() -> Vec<String> {
    std::mem::take(&mut *PANICS.lock().expect("no panic here"))
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
