package update

import (
	"context"
	"fmt"
	"time"
)

// trialPause is how often a trial looks.
const trialPause = time.Second

// Watch is called by a version on trial as soon as it runs. It confirms the
// version when ready was nil for SettleTime without a break and returns nil; if
// that does not happen within TrialTime, it gives the version up and returns why:
// the process must end then. It returns nil when ctx ends.
func (v *Versions) Watch(ctx context.Context, version string, ready func() error) error {
	limit := time.NewTimer(TrialTime)
	defer limit.Stop()
	tick := time.NewTicker(trialPause)
	defer tick.Stop()
	var since time.Time
	why := "it never became ready"
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-limit.C:
			reason := fmt.Sprintf("it was not well within %v: %s", TrialTime, why)
			if err := v.Fail(version, reason); err != nil {
				return fmt.Errorf("version %s: %s; it could not be given up: %w", version, reason, err)
			}
			return fmt.Errorf("version %s was given up: %s", version, reason)
		case <-tick.C:
		}
		switch err := ready(); {
		case err != nil:
			since, why = time.Time{}, err.Error()
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= SettleTime:
			return v.Confirm(version)
		}
	}
}
