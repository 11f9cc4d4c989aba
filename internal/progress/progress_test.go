package progress

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPlainLinesEveryFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := New(&out, "mychannel", 100, 1100)
		for range 100 {
			time.Sleep(120 * time.Millisecond)
			p.Add(10)
		}
		p.Done()
		p.Done()
		p.Add(5)
		want := "mychannel: block 520/1100, 47%, 83 blocks/s, 7s left\n" +
			"mychannel: block 940/1100, 85%, 83 blocks/s, 2s left\n" +
			"mychannel: block 1100/1100, 100%, 83 blocks/s, took 12s\n"
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStoppedEarlyAndEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := New(&out, "a", 0, 10)
		p.Set(3)
		p.Done()
		New(&out, "b", 0, 0).Done()
		full := New(&out, "c", 9, 7)
		full.Set(100)
		full.Done()
		New(nil, "d", 0, 1).Done()
		want := "a: block 3/10, 30%, took 0s\nb: block 0/0, 100%, took 0s\nc: block 7/7, 100%, took 0s\n"
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestBarIsRedrawnInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, "mychannel", "block", 1000, 2000, true)
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			p.Add(1)
		}
		p.Done()
		text := out.String()
		if n := strings.Count(text, "\n"); n != 1 || !strings.HasSuffix(text, "\n") {
			t.Errorf("%d line ends", n)
		}
		frames := strings.Split(text, "\r")
		if len(frames) < 50 || len(frames) > 500 {
			t.Errorf("%d redraws in 10 s", len(frames))
		}
		// One frame for each position, and its speed is that of the walk from the
		// first on.
		for _, want := range []string{
			"mychannel: block 1010/2000   1% [                              ] (100 blocks/s) [0s:9s]",
			"mychannel: block 1500/2000  50% [==============>               ] (100 blocks/s) [5s:5s]",
		} {
			position, _, _ := strings.Cut(want, "%")
			var found []string
			for _, f := range frames {
				if strings.HasPrefix(f, position[:len("mychannel: block 1010/2000")]) {
					found = append(found, strings.TrimSuffix(f, "\x1b[0K"))
				}
			}
			if diff := cmp.Diff([]string{want}, found); diff != "" {
				t.Error(diff)
			}
		}
		if last := frames[len(frames)-1]; !strings.Contains(last, "block 2000/2000 100%") {
			t.Errorf("last frame %q", last)
		}
	})
}

func TestBarOfAnUnfinishedWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, "x", "block", 0, 2000, true)
		time.Sleep(time.Second)
		p.Set(40)
		p.Done()
		if text := out.String(); !strings.Contains(text, "block 40/2000") || !strings.HasSuffix(text, "\n") {
			t.Errorf("%q", text)
		}
	})
}

// A log line takes the place of the bar, which is drawn anew below it.
func TestLinesBetweenFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		screen := &Terminal{w: &out}
		screen.Write([]byte("before\n"))
		p := New(screen, "x", 0, 200)
		time.Sleep(time.Second)
		p.Set(50)
		screen.Write([]byte("log line\n"))
		time.Sleep(time.Second)
		p.Set(100)
		p.Done()
		screen.Write([]byte("after\n"))
		want := "before\n" +
			"\rx: block 50/200  25% [======>                       ] (50 blocks/s) [1s:3s]\x1b[0K" +
			"\r\x1b[Klog line\n" +
			"\rx: block 100/200  50% [==============>               ] (50 blocks/s) [2s:2s]\x1b[0K" +
			"\rx: block 100/200  50% [==============>               ] (50 blocks/s) [2s:2s]\x1b[0K\n" +
			"after\n"
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Error(diff)
		}
	})
}
