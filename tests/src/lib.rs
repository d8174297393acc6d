//! The lab: network namespaces that make a client, a director and real servers, and clients to load them with.
//!
//! Everything here needs root and Debian's tools (`cargo xtask setup` installs them). A [`lab::Lab`] removes
//! itself when it is dropped, also by a panic; what a killed test left behind is swept by the next one. In [`vm`] the same
//! lab is made on other kernels, inside virtual machines.

mod background;
pub mod clients;
pub mod docs;
pub mod lab;
pub mod pair;
pub mod vm;
pub mod wait;
