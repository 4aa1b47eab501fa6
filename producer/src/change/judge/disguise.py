"""Makes a VM look like an ordinary machine."""

LOOK = "/dev/shm/look"
# Where a machine tells what it is, and where the VM's own things lie.
TELLTALES = ("/sys/class/dmi", "/sys/devices/virtual/dmi", "/sys/firmware", "/sys/class/virtio-ports",
             "/dev/virtio-ports", "/opt/evalfleet")


def disguise():
    """Makes this VM look like an ordinary machine, in mounts that this process has for itself."""
    try:
        unshare()
        posix.mkdir(LOOK)
        with open("/proc/cpuinfo") as file:
            told = file.read().splitlines()
        with open(LOOK + "/cpuinfo", "w") as file:
            file.writelines(ordinary(line) + "\n" for line in told)
        mounts = ["%s/cpuinfo /proc/cpuinfo none bind 0 0" % LOOK]
        mounts += ["tmpfs %s tmpfs size=64k 0 0" % place for place in TELLTALES if is_there(place)]
        with open(LOOK + "/fstab", "w") as file:
            file.write("\n".join(mounts) + "\n")
        # One process for all of them, which need neither be noted nor resolved.
        done = run(["mount", "-n", "-i", "-c", "-a", "-T", LOOK + "/fstab"], 0, 30, cwd="/").ok()
        with open("/proc/sys/kernel/hostname", "w") as file:
            file.write("workstation\n")
        for name in ("cpuinfo", "fstab"):
            posix.unlink("%s/%s" % (LOOK, name))
        posix.rmdir(LOOK)
        return done
    except OSError:
        return False


def unshare():
    """Gives this process, and what it starts, mounts and a host name of its own. A Python before 3.12 cannot: there it was
    started by unshare(1)."""
    if hasattr(posix, "unshare"):
        posix.unshare(posix.CLONE_NEWNS | posix.CLONE_NEWUTS)


def ordinary(line):
    """A line of cpuinfo as another processor tells it."""
    field, colon, value = line.partition(":")
    word = field.strip()
    if word == "model name":
        value = " Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz"
    elif word == "vendor_id":
        value = " GenuineIntel"
    elif word == "flags":
        value = " " + " ".join(flag for flag in value.split() if flag != "hypervisor")
    return field + colon + value
