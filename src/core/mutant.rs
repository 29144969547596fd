//! Faults that are switched into the core on purpose, by the tests that show that each invariant is really checked.
//!
//! In every build but the library's own tests all of them are off, and the compiler takes them out.

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
}

/// Whether the fault of that name is switched in on this thread.
#[inline]
pub(crate) fn is(name: &str) -> bool {
    #[cfg(test)]
    return ON.get() == name;
    #[cfg(not(test))]
    return {
        let _ = name;
        false
    };
}

/// Switches one in on this thread; none with the empty name.
#[cfg(test)]
pub(crate) fn set(name: &'static str) {
    ON.set(name);
}
