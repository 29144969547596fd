//! The neighbours.
<<<<<<< HEAD
pub mod run;
=======
pub mod peer;
pub mod store;
>>>>>>> 9e95db64501f99b6e7844e53e0d48e58ad8a6d26
