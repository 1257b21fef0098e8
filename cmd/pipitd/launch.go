package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/sysd"
	"github.com/pipit-im/pipit/pkg/update"
)

// launch hands over to the version that was chosen by `pipit update`, if one
// was and this is the factory program; then it does not return.
func launch() (update.Launched, *update.Versions) {
	dir := update.DataDir()
	if dir == "" || len(os.Args) > 1 && (os.Args[1] == "--version" || os.Args[1] == "--help") {
		return update.Launched{}, nil
	}
	versions := update.Open(update.Options{DataDir: dir, Factory: app.Version, Format: func() (int, error) { return app.DataFormat(dir) }})
	return update.Launch("pipitd", versions, slog.New(sysd.LogHandler(os.Stderr, "auto", slog.LevelInfo))), versions
}

// judge gives a version on trial up that ended because it can't use the settings
// or the data: the version before could, and the unit may not restart after such
// an end. It returns the code to end with.
func judge(l update.Launched, versions *update.Versions, code int) int {
	if !l.Trial || code != 2 && code != 3 {
		return code
	}
	if err := versions.Fail(l.Version, fmt.Sprintf("it ended at once with code %d; the log says why", code)); err != nil {
		fmt.Fprintln(os.Stderr, "pipitd: the way back is closed: "+err.Error())
	}
	return 1
}
