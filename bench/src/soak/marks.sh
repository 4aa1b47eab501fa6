# Looks for what any job before it left in this VM, then leaves as much as it can. Says "found WHAT" for
# each thing found, and at the end "marked NUMBER". Only what the shell itself can do, as far as possible:
# every further program costs more than all of this. $1: this job's number. $2: what it looks at beyond
# that, none or deep. $3: the modules that a clean VM has.

for file in /workspace/mark-* /etc/mark-* /root/mark-* /var/tmp/mark-*; do
    [ -e "$file" ] && echo "found file $file"
done
[ -e /etc/debian_version ] || echo 'found a file that is gone: /etc/debian_version'
for file in /dev/shm/mark-*; do
    [ -e "$file" ] && echo "found shared memory $file"
done
while read -r device _; do
    [ "$device" = mark ] && echo 'found a tmpfs'
done < /proc/mounts
read -r setting < /proc/sys/kernel/domainname
case $setting in mark-*) echo "found kernel setting domainname $setting" ;; esac
# The shell reads byte by byte, and of a number the kernel gives no second one: 50 reads as 5.
read -r setting < /proc/sys/vm/overcommit_ratio
[ "$setting" = 5 ] || echo "found kernel setting overcommit_ratio $setting"
modules=
while read -r module _; do
    modules="$modules $module"
done < /proc/modules
[ -z "$3" ] || [ "$modules" = "$3" ] || echo "found modules$modules"
# Not `stat`, which is far longer: the shell makes a system call for each byte.
for name in /proc/[0-9]*/comm; do
    read -r comm < "$name" && [ "$comm" = sleep ] && echo "found process $name"
done 2> /dev/null

echo "$1" > "/workspace/mark-$1"
echo "$1" > "/etc/mark-$1"
echo "$1" > "/root/mark-$1"
echo "$1" > "/var/tmp/mark-$1"
rm -f /etc/debian_version
echo "mark-$1" > /proc/sys/kernel/domainname
echo 37 > /proc/sys/vm/overcommit_ratio
mount -t tmpfs mark /mnt && echo "$1" > "/mnt/mark-$1"
sleep 1000 > /dev/null 2>&1 &
# A mebibyte of memory that says whose it is, in pages that nobody cleans.
# Six digits, so that a page that ends in the middle of one makes no other number of it.
number=00000$1
while [ ${#number} -gt 6 ]; do number=${number#?}; done
text="EVALFLEET-MARK-$number-"
while [ ${#text} -lt 1048576 ]; do text="$text$text"; done
echo "$text" > "/dev/shm/mark-$1"

if [ "$2" = deep ]; then
    # No other program may be started between the two: the shell's own copies of the text are marks, too.
    perl - "$number" <<'PERL'
my $own = shift;
# delete_module(2): a module of nobody's, gone for good in this VM.
syscall(176, my $module = "virtio_rng", 2048);
open my $core, "<:raw", "/proc/kcore" or die "kcore: $!";
sysread $core, my $header, 64;
my ($offset, $size, $count) = (unpack("x32 Q", $header), unpack("x54 S2", $header));
my (%seen, $scanned);
for my $index (0 .. $count - 1) {
    sysseek $core, $offset + $index * $size, 0;
    sysread $core, my $segment, $size;
    my ($kind, $at, $address, $length) = unpack "L x4 Q Q x8 Q", $segment;
    # The kernel's own view of all memory, with page tables of five levels or of four, and nothing that
    # is mapped twice.
    my $mine = $address >= 0xff11000000000000 && $address < 0xff91000000000000
        || $address >= 0xffff888000000000 && $address < 0xffffc88000000000;
    next unless $kind == 1 and $mine;
    sysseek $core, $at, 0;
    while ($length > 0) {
        my $read = sysread $core, my $chunk, $length < 1048576 ? $length : 1048576;
        last unless $read;
        ($length, $scanned) = ($length - $read, $scanned + $read);
        # A mark in every page of it: looking at each page's beginning finds more than enough.
        $seen{$1}++ while $chunk =~ /EVALFLEET-MARK-(\d{6})-/g;
    }
}
print "scanned $scanned\n";
print "own $own\n" if delete $seen{$own};
print "found memory of $_\n" for sort keys %seen;
PERL
fi
echo "modules$modules"
echo "marked $1"
