#!/bin/sh
# The tests keep hundreds of zygotes at once, each with an inotify instance or two; a user has 128. Raised for as long as
# the machine is up where that is allowed; elsewhere the tests that come too late run cold and fail, and this says why.
want=8192
file=/proc/sys/fs/inotify/max_user_instances
have=$(cat "$file" 2>/dev/null) || exit 0
[ "$have" -ge "$want" ] && exit 0
if ! echo "$want" 2>/dev/null >"$file"; then
    echo "make: $file is $have, which may not do for all tests: sudo sysctl -w fs.inotify.max_user_instances=$want" >&2
fi
exit 0
