//! Large transfers, both ways, whatever the MTU: checksums and segmentation offload show here or nowhere.

use anyhow::{Result, ensure};
use tests::clients::{download, upload};
use tests::lab::{self, Lab};

use crate::farm::{WAYS, everywhere, url};

fn large_files_arrive_whole(mtu: u32) -> Result<()> {
    let lab = Lab::builder().mtu(mtu).build()?;
    let servers = lab.nginx_everywhere()?;
    let director = lab.director(everywhere())?;
    let native = director.status()?["interfaces"][0]["mode"] == "native";
    ensure!(native, "XDP is not native at MTU {mtu}");
    for (name, vip, _) in WAYS {
        let fetched = download(lab.client(), &(url(vip, 80) + "big"))?;
        ensure!(fetched.sha256 == lab.big_sha256()?, "{name}: another file arrived");
        let put = upload(lab.client(), &(url(vip, 80) + "upload/" + name), &lab.big_file())?;
        let number: usize = put.real.trim_start_matches("real").parse()?;
        let arrived = lab::sha256_of(&servers[number - 1].uploaded(name))?;
        ensure!(arrived == lab.big_sha256()?, "{name}: {} has another file", put.real);
    }
    Ok(())
}

#[test]
fn large_files_arrive_whole_at_mtu_1500() -> Result<()> {
    large_files_arrive_whole(1500)
}

#[test]
fn large_files_arrive_whole_at_mtu_9000() -> Result<()> {
    large_files_arrive_whole(9000)
}
