//! What an operator meets beside forwarding and failover: HTTP, metrics, the dashboard, `top`, `doctor`, the package. Needs root.

mod dashboard;
mod http;
mod top;
