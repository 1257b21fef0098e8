package prealloc

import "golang.org/x/sys/unix"

const (
	auditArch    = unix.AUDIT_ARCH_ARM
	sysFtruncate = unix.SYS_FTRUNCATE64
)

// The size lies in an even pair of registers (the EABI of ARM).
func sizeOf(n *notice) int64 { return int64(uint64(uint32(n.args[3]))<<32 | uint64(uint32(n.args[2]))) }
