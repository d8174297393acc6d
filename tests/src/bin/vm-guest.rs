//! The first process of the machines that `cargo xtask test vm` boots; see `tests::vm`.

fn main() -> anyhow::Result<()> {
    tests::vm::guest::main()
}
