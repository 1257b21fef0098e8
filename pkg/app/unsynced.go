//go:build unsafe_no_sync

package app

// noSync: a program that is built with this tag loses what it acknowledged when
// the power goes; tests/crash shows with it that its disk notices that.
const noSync = true
