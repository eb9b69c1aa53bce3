// Package trust says which files hive believes: those that nobody but root and hive's
// own user can change. What is in a configuration, a types.d, an env_file or a state
// file decides what hive runs, and with whose rights.
//
// The rule is that of sshd's StrictModes, over the whole way. A file or directory is
// trusted if
//
//   - it belongs to root or to hive's effective user, and neither its group nor others
//     may write to it;
//   - so does every directory on its way, from / on. One in which others may write is
//     passed if it is sticky, as /tmp is: what root or hive's user has in it nobody else
//     can rename or remove (unlink(2), EPERM);
//   - so does every symbolic link on its way. A link is followed by its text, and the
//     directories on the way of its target count too. Links of /proc are not followed.
//
// Guarantees: the path is walked with one openat(2) for each component, none of which
// follows a link, and what is checked is what was opened. A file that Open returns was
// checked itself, by fstat(2), so that nothing can be exchanged in between. Nothing is
// opened but regular files, so neither a fifo nor a device makes anybody wait. A path of
// which the directories are trusted stays what it was: whoever uses it by name after a
// check gets what was checked.
//
// Exceptions:
//
//   - On a mount that is read-only, owner and mode do not count if hive is PID 1: a
//     container that hive has for itself, where files of the host have the owners of the
//     host. Nobody in the container can write there, whatever its uid; who can on the
//     host was chosen with the mount.
//   - In a user namespace that does not map the overflow uid (65534), that is what all
//     unmapped owners look like, the host's root among them. A directory or link on the
//     way may belong to it, as / does for `unshare --map-root-user`; what is asked for
//     may not.
//
// Caveats: of an ACL the mask is seen, which stands in the group's bits (acl(5)): one that
// lets somebody write is refused as a group that may. NFSv4's own ACLs are not seen. Where
// fs.protected_hardlinks is off (proc_sys_fs(5)) anybody can give a file of root's a name
// in /tmp. Whose a file is the file system says: a medium that another user has written
// elsewhere can claim to be root's. A group that has only its user in it counts as any
// other group. PrivatePIDs= of systemd makes hive PID 1, too. What lies below a trusted
// directory is not checked before it is requested. Elsewhere than on Linux, where only
// hivectl runs, nothing but the kind of a file is checked.
package trust
