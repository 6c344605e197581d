//! Where the file is: whether that is a place for it.

use std::path::{Path, PathBuf};

use super::trouble::failed;
use crate::core::error::Result;

/// File systems over a network, or shared with another system, by the names that Linux gives them. Several systems that
/// write to one file there damage it, since each has its own view of the memory that SQLite's processes share.
const SHARED: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "fuse.ceph",
    "fuse.glusterfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.rclone",
    "fuse.gcsfuse",
    "fuse.mount-s3",
    "glusterfs",
    "gpfs",
    "lustre",
    "beegfs",
    "gfs2",
    "ocfs2",
    "orangefs",
    "davfs",
    "fuse.davfs",
];

/// The absolute path of the file, whether or not it exists.
///
/// # Errors
/// If its folder does not exist.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    let problem = |problem: String| failed("opening the database", path, false, problem);
    let Some(name) = path.file_name() else {
        return Err(problem("the path names no file".to_owned()));
    };
    if let Ok(existing) = path.canonicalize() {
        return Ok(existing);
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let absolute = folder.canonicalize().map_err(|error| {
        let folder = folder.display();
        problem(format!(
            "its folder `{folder}` cannot be entered: make it first ({error})"
        ))
    })?;
    Ok(absolute.join(name))
}

/// Refuses a file that is not to be written, and one on a network file system.
pub(super) fn check(path: &Path) -> Result<()> {
    let refused = |problem: String| Err(failed("opening the database", path, false, problem));
    if let Ok(metadata) = path.metadata() {
        if metadata.is_dir() {
            return refused("it is a folder: give the path of a file in it".to_owned());
        }
        if metadata.permissions().readonly() {
            return refused(
                "the file is read-only: its permissions let nobody write to it".to_owned(),
            );
        }
    }
    // Linux only: elsewhere nothing tells without a system call of its own.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match file_system(&mounts, path) {
        Some(kind) if SHARED.contains(&kind) => refused(format!(
            "the file is on a network file system ({kind}), where processes on several machines would damage it: use a local disk, or a database server"
        )),
        _ => Ok(()),
    }
}

/// The kind of the file system that an absolute path is on, from the text of `/proc/self/mountinfo`.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        // ID PARENT DEVICE ROOT POINT OPTIONS FIELDS… - KIND SOURCE OPTIONS
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        Some((unescaped(point), after.split(' ').next()?))
    });
    // Of two mounts at one point, the later one covers the earlier one.
    let around = mounts.filter(|(point, _)| path.starts_with(point));
    let nearest = around.max_by_key(|(point, _)| Path::new(point).components().count());
    nearest.map(|(_, kind)| kind)
}

/// A path as it is: the kernel writes a space as `\040`.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 252:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /home rw shared:7 - nfs4 server:/home rw
24 23 0:22 / /home/me/my\\040disk rw - xfs /dev/vdb rw
25 22 0:23 / /mnt rw - ext4 /dev/vdc rw
26 25 0:24 / /mnt rw - fuse.sshfs me@there: rw
";

    #[test]
    fn the_nearest_mount_counts() {
        let kind = |path: &str| file_system(MOUNTS, Path::new(path));
        assert_eq!(kind("/var/run.db"), Some("ext4"));
        assert_eq!(kind("/home/me/run.db"), Some("nfs4"));
        assert_eq!(kind("/homes/run.db"), Some("ext4"));
        assert_eq!(kind("/home/me/my disk/run.db"), Some("xfs"));
        assert_eq!(kind("/mnt/run.db"), Some("fuse.sshfs"), "the later mount");
        assert_eq!(file_system("", Path::new("/run.db")), None);
    }

    #[test]
    fn a_path_without_a_folder_is_in_the_current_one() {
        let absolute = absolute(Path::new("not-there.db")).unwrap();
        assert_eq!(
            absolute,
            std::env::current_dir()
                .unwrap()
                .canonicalize()
                .unwrap()
                .join("not-there.db")
        );
    }
}
