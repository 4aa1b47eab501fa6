//! What a foreign image is told at its first boot: a key that may enter, in the form of cloud-init's
//! NoCloud source. A small FAT volume with the label that cloud-init looks for, written without root and
//! without any program.

use std::fs;
use std::io::{self, Cursor, Write as _};
use std::path::Path;

use super::Error;
use crate::command::{self, command};
use crate::manifest::Part;

/// A volume of one mebibyte: the smallest FAT12 that every reader takes.
const BYTES: usize = 1 << 20;
const LABEL: [u8; 11] = *b"CIDATA     ";

/// Makes a key pair and the seed that carries its public half into `work`.
pub(super) fn write(work: &Path, name: &str, id: &str, user: &str) -> Result<(), Error> {
    let key = work.join(Part::SshKey.file_name());
    let mut keygen = command("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "evalfleet", "-f"]).arg(&key);
    command::run(keygen, |_| ())?;
    let public_path = key.with_extension("pub");
    let public = fs::read_to_string(&public_path)
        .map_err(|source| Error::File { path: public_path.clone(), source })?;
    fs::remove_file(&public_path).map_err(|source| Error::File { path: public_path, source })?;
    let files = [
        ("meta-data", format!("instance-id: evalfleet-{id}\nlocal-hostname: {name}\n")),
        ("user-data", user_data(public.trim(), user)),
        ("network-config", NETWORK.to_owned()),
    ];
    let volume = volume(&files).map_err(Error::Seed)?;
    let path = work.join(Part::Seed.file_name());
    fs::write(&path, volume).map_err(|source| Error::File { path, source })
}

const NETWORK: &str = "version: 2\nethernets:\n  all:\n    match: {name: \"e*\"}\n    dhcp4: true\n";

/// The disk stays as large as it is, and one kind of host key is enough: both cost time at the boot.
fn user_data(public_key: &str, user: &str) -> String {
    let mut text = format!(
        "#cloud-config\ndisable_root: false\nssh_pwauth: false\nssh_genkeytypes: [ed25519]\nssh_authorized_keys:\n  - {public_key}\n\
         growpart: {{mode: \"off\"}}\nresize_rootfs: false\n"
    );
    if user != "root" {
        text.push_str(&format!(
            "users:\n  - default\n  - name: {user}\n    shell: /bin/sh\n    sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n    \
             ssh_authorized_keys:\n      - {public_key}\n"
        ));
    }
    text
}

fn volume(files: &[(&str, String)]) -> io::Result<Vec<u8>> {
    let mut disk = Cursor::new(vec![0; BYTES]);
    let options = fatfs::FormatVolumeOptions::new().volume_label(LABEL).volume_id(0x0ea1_f1ee);
    fatfs::format_volume(&mut disk, options)?;
    let filesystem = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new())?;
    for (name, content) in files {
        filesystem.root_dir().create_file(name)?.write_all(content.as_bytes())?;
    }
    filesystem.unmount()?;
    Ok(disk.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn what_is_written_is_found_under_the_label_that_cloud_init_looks_for() {
        let mut bytes = volume(&[("user-data", "#cloud-config\n".to_owned())]).unwrap();
        let filesystem = fatfs::FileSystem::new(Cursor::new(&mut bytes), fatfs::FsOptions::new()).unwrap();
        assert_eq!(filesystem.volume_label().trim(), "CIDATA");
        let mut text = String::new();
        filesystem.root_dir().open_file("user-data").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "#cloud-config\n");
    }

    #[test]
    fn another_user_than_root_gets_the_key_and_sudo() {
        assert!(!user_data("ssh-ed25519 K", "root").contains("users:"));
        let text = user_data("ssh-ed25519 K", "ubuntu");
        assert!(text.contains("name: ubuntu") && text.contains("NOPASSWD") && text.matches("K").count() >= 2);
    }
}
