//go:build !unsafe_no_sync

package app

// noSync is set in a build for the power-cut rig alone (unsynced.go).
const noSync = false
