//! Health checks of real servers. Nothing is here yet: the crate holds its place in the agreed layout, and the director
//! says clearly (`director check`) that configured checks are not run.
