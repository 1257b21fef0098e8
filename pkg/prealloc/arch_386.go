package prealloc

import "golang.org/x/sys/unix"

const (
	auditArch    = unix.AUDIT_ARCH_I386
	sysFtruncate = unix.SYS_FTRUNCATE64
)

func sizeOf(n *notice) int64 { return int64(uint64(uint32(n.args[2]))<<32 | uint64(uint32(n.args[1]))) }
