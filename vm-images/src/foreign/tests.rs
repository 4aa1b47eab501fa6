use super::*;
use std::os::unix::fs::FileExt as _;

fn raw_disk(folder: &Path) -> PathBuf {
    let path = folder.join("my-disk.img");
    let file = fs::File::create(&path).unwrap();
    file.set_len(4 << 20).unwrap();
    file.write_all_at(&[0x55, 0xaa], 510).unwrap();
    path
}

fn options(folder: &Path, file: PathBuf) -> ImportOptions {
    ImportOptions {
        images: folder.join("images"),
        file,
        name: None,
        channel: Channel::Auto,
        user: "root".to_owned(),
    }
}

#[test]
fn a_raw_disk_is_imported_once_and_its_channel_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), raw_disk(folder.path()));
    let (mut image, new) = import(&options).unwrap();
    assert!(new && image.current && image.manifest.name == "my-disk");
    image.verify().unwrap();
    assert!(image.tools().unwrap().is_empty());
    let key = fs::metadata(image.path(Part::SshKey)).unwrap();
    assert_eq!(key.permissions().mode() & 0o077, 0, "ssh refuses a key that others can read");
    assert!(!import(&options).unwrap().1, "the second time there is nothing to do");

    found(&mut image, Channel::Ssh).unwrap();
    let (again, _) = import(&options).unwrap();
    assert_eq!(again.manifest.foreign.unwrap().channel, Channel::Ssh);
}

#[test]
fn a_file_with_other_content_is_another_image_of_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), raw_disk(folder.path()));
    let (first, _) = import(&options).unwrap();
    fs::OpenOptions::new().write(true).open(&options.file).unwrap().write_all_at(b"other", 2048).unwrap();
    let (second, new) = import(&options).unwrap();
    assert!(new && second.manifest.digest != first.manifest.digest);
    assert_eq!(Store::new(&options.images).list().unwrap().len(), 2);
}

#[test]
fn a_file_gives_its_image_a_name_that_fits() {
    assert_eq!(name_of(Path::new("/x/Ubuntu-22.04_minimal.qcow2")), "ubuntu-22-04-minimal");
}

#[test]
fn names_users_and_files_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = options(folder.path(), raw_disk(folder.path()));
    let bad_name = ImportOptions { name: Some("../x".to_owned()), ..good.clone() };
    assert!(matches!(import(&bad_name), Err(Error::Name(_))));
    let bad_user = ImportOptions { user: "-oProxyCommand=x".to_owned(), ..good.clone() };
    assert!(matches!(import(&bad_user), Err(Error::User(_))));
    fs::write(&good.file, "no disk").unwrap();
    assert!(matches!(import(&good), Err(Error::Refused { .. })));
}
