//! What an operator meets beside forwarding and failover: HTTP, metrics, the dashboard, `top`, `doctor`, the package. Needs root.

mod dashboard;
mod doctor;
mod guide;
mod http;
mod logs;
mod metrics;
mod package;
mod real_server;
mod top;
