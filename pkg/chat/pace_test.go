package chat

import (
	"testing"
	"time"
)

// paced commits for a while, each commit as long as flush, with what arrives
// meanwhile; arrive tells how many commands come in a time. It answers the number
// of commits and the time that they took with their rests.
func paced(p *pace, flush, whole time.Duration, arrive func(time.Duration) int) (commits int, rested time.Duration) {
	waiting := 1
	for at := time.Duration(0); at < whole; {
		commands := max(waiting, 1) // an idle goroutine waits for the first
		p.took(flush)
		rest := p.rest(commands, flush)
		rested += rest
		commits++
		spent := flush + rest
		if waiting = arrive(spent); waiting == 0 {
			for spent += time.Millisecond / 10; arrive(time.Millisecond/10) == 0; {
				spent += time.Millisecond / 10
			}
			waiting = 1
		}
		at += spent
	}
	return commits, rested
}

// each is senders who do not wait for answers, one command in every.
func each(every time.Duration) func(time.Duration) int {
	var left time.Duration
	return func(d time.Duration) int {
		left += d
		n := left / every
		left -= n * every
		return int(n)
	}
}

func TestPace(t *testing.T) {
	const disk = 300 * time.Microsecond
	t.Run("many senders on a disk", func(t *testing.T) {
		commits, _ := paced(new(pace), disk, 10*time.Second, each(2500*time.Microsecond)) // 4000 commands
		if commits > 1400 {
			t.Errorf("%d commits for 4000 commands: hardly anything gathers", commits)
		}
	})
	t.Run("one who waits for each answer", func(t *testing.T) {
		p := new(pace)
		commits, rested := paced(p, disk, 10*time.Second, func(time.Duration) int { return 1 })
		if most := time.Duration(commits/tryEvery+1) * commitEvery; rested > most {
			t.Errorf("rested %v in %d commits, at most %v is well", rested, commits, most)
		}
	})
	t.Run("the crowd leaves", func(t *testing.T) {
		p := new(pace)
		paced(p, disk, time.Second, each(2500*time.Microsecond))
		if !p.many {
			t.Fatal("400 a second are not many")
		}
		commits, rested := paced(p, disk, 10*time.Second, func(time.Duration) int { return 1 })
		if most := time.Duration(commits/tryEvery+20) * commitEvery; rested > most {
			t.Errorf("rested %v in %d commits after it, at most %v is well", rested, commits, most)
		}
	})
	t.Run("a card", func(t *testing.T) {
		p := new(pace)
		paced(p, 20*time.Millisecond, time.Second, each(2500*time.Microsecond))
		if got := p.rest(1, 20*time.Millisecond); got < 9*time.Millisecond || got > 10*time.Millisecond {
			t.Errorf("a rest of %v, half a flush of 20 ms is 10 ms", got)
		}
		p.flush = time.Second
		if got := p.rest(1, time.Second); got != restMost {
			t.Errorf("a rest of %v on the slowest card, at most %v", got, restMost)
		}
	})
	t.Run("full commits", func(t *testing.T) {
		for _, flush := range []time.Duration{disk, 20 * time.Millisecond} {
			p := &pace{flush: flush, many: true}
			if got := p.rest(maxBatch/4, flush); got != 0 {
				t.Errorf("a rest of %v after a full commit", got)
			}
		}
	})
	t.Run("a disk in between", func(t *testing.T) {
		p := new(pace)
		if _, rested := paced(p, 4*time.Millisecond, 10*time.Second, each(2500*time.Microsecond)); rested > 0 {
			t.Errorf("rested %v on a disk that flushes in 4 ms", rested)
		}
	})
	t.Run("a slow commit on a fast disk", func(t *testing.T) {
		p := &pace{flush: fastFlush - 1, many: true}
		if got := p.rest(5, commitEvery); got != 0 {
			t.Errorf("a rest of %v after a commit that took %v", got, commitEvery)
		}
	})
}
