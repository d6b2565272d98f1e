package feed

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
	"github.com/usher-authz/usher/policies"
)

// fault changes the lines of one type of frame; nth counts those from 0. Without
// line it exchanges two of them.
type fault struct {
	name string
	on   wire.Type
	line func(nth int, line []byte) (lines [][]byte, end bool)
	want wire.RefusalKind
}

func (f fault) lines() lineChanger {
	if f.line == nil {
		return f.swapping()
	}
	nth := -1
	return func(line []byte) ([][]byte, bool) {
		if !bytes.HasPrefix(line, []byte(`{"type":"`+string(f.on)+`"`)) {
			return asLine(line), false
		}
		nth++
		return f.line(nth, line)
	}
}

func at(want int, change func(line []byte) ([][]byte, bool)) func(int, []byte) ([][]byte, bool) {
	return func(nth int, line []byte) ([][]byte, bool) {
		if nth == want {
			return change(line)
		}
		return asLine(line), false
	}
}

func replaced(old, by string) func(line []byte) ([][]byte, bool) {
	return func(line []byte) ([][]byte, bool) {
		if !bytes.Contains(line, []byte(old)) {
			return [][]byte{[]byte("the test is wrong: no " + old + "\n")}, true
		}
		return asLine(bytes.Replace(line, []byte(old), []byte(by), 1)), false
	}
}

func dropped([]byte) ([][]byte, bool) { return nil, false }

func doubled(line []byte) ([][]byte, bool) { return append(asLine(line), asLine(line)...), false }

func instead(text string) func([]byte) ([][]byte, bool) {
	return func([]byte) ([][]byte, bool) { return [][]byte{[]byte(text)}, false }
}

func cutShort(line []byte) ([][]byte, bool) { return [][]byte{line[:len(line)/2]}, true }

func endHere([]byte) ([][]byte, bool) { return nil, true }

// swapping exchanges frames 3 and 4.
func (f fault) swapping() lineChanger {
	var held []byte
	return fault{on: f.on, line: func(nth int, line []byte) ([][]byte, bool) {
		switch nth {
		case 3:
			held = bytes.Clone(line)
			return nil, false
		case 4:
			return append(asLine(line), asLine(held)...), false
		}
		return asLine(line), false
	}}.lines()
}

// anyFrame are faults that no place in the stream makes good.
func anyFrame(on wire.Type) []fault {
	return []fault{
		{"garbage", on, at(2, instead("\x00\xff\x17 garbage\n")), wire.RefusedMalformed},
		{"not JSON behind its type", on, at(2, instead(`{"type":"`+string(on)+`",]`+"\n")), wire.RefusedMalformed},
		{"empty line", on, at(2, instead("\n")), wire.RefusedMalformed},
		{"unknown type", on, at(2, instead(`{"type":"rumour"}`+"\n")), wire.RefusedMalformed},
		{"type with an endless name", on, at(2, instead(`{"type":"`+strings.Repeat("x", 1<<20))), wire.RefusedMalformed},
		{"type behind another member", on, at(2, instead(`{"a":1,"type":"heartbeat"}`+"\n")), wire.RefusedMalformed},
		{"duplicate member", on, at(2, replaced(`{"type":`, `{"type":"`+string(on)+`","type":`)), wire.RefusedMalformed},
		{"invalid UTF-8", on, at(2, replaced(`,"`, ",\"x\":\"\xff\",\"")), wire.RefusedMalformed},
		{"frame of the other mode", on, at(2, instead(`{"type":"notice","revision":9,"time":"2030-01-01T00:00:00Z"}`+"\n")), wire.RefusedMalformed},
		{"endless heartbeat", on, at(2, instead(`{"type":"heartbeat","time":"`+strings.Repeat("0", wire.MaxLine)+"\"}\n")), wire.RefusedOversized},
		{"endless object", on, at(2, instead(`{"type":"object","id":"`+strings.Repeat("0", wire.MaxObjectLine))), wire.RefusedOversized},
		{"ended within a line", on, at(2, cutShort), wire.RefusedTruncated},
		{"a heartbeat from before", on, at(2, instead(`{"type":"heartbeat","platform":"p","revision":1,"time":"2030-01-01T00:00:00Z"}`+"\n")), wire.RefusedRollback},
		{"another platform's heartbeat", on, at(2, instead(`{"type":"heartbeat","platform":"q","revision":99,"time":"2030-01-01T00:00:00Z"}`+"\n")), wire.RefusedPlatform},
	}
}

func snapshotFaults() []fault {
	return append(anyFrame(wire.TypeObject), []fault{
		{"altered object", wire.TypeObject, at(5, replaced(`"id":"e`, `"id":"x`)), wire.RefusedAltered},
		{"altered header", wire.TypeSnapshot, at(0, replaced(`"time":"2`, `"time":"1`)), wire.RefusedAltered},
		{"altered revision", wire.TypeSnapshot, at(0, replaced(`"revision":`, `"revision":1`)), wire.RefusedAltered},
		{"altered digest", wire.TypeSnapshotEnd, at(0, func(line []byte) ([][]byte, bool) {
			return [][]byte{[]byte(string(line[:len(line)-66]) + strings.Repeat("0", 64) + "\"}\n")}, false
		}), wire.RefusedAltered},
		{"dropped object", wire.TypeObject, at(5, dropped), wire.RefusedTruncated},
		{"repeated object", wire.TypeObject, at(5, doubled), wire.RefusedTruncated},
		{"moved object", wire.TypeObject, nil, wire.RefusedAltered},
		{"unknown kind", wire.TypeObject, at(5, replaced(`"kind":"environment"`, `"kind":"cluster"`)), wire.RefusedUnusable},
		{"other platform", wire.TypeSnapshot, at(0, replaced(`"platform":"p"`, `"platform":"q"`)), wire.RefusedPlatform},
		{"nested snapshot", wire.TypeSnapshot, at(0, doubled), wire.RefusedMalformed},
		{"end before its time", wire.TypeObject, at(5, endHere), wire.RefusedTruncated},
		{"end without a beginning", wire.TypeSnapshot, at(0, instead(`{"type":"snapshot_end","count":0}`+"\n")), wire.RefusedMalformed},
		{"object without a snapshot", wire.TypeSnapshot, at(0, dropped), wire.RefusedMalformed},
		{"no end", wire.TypeSnapshotEnd, at(0, endHere), wire.RefusedTruncated},
		{"altered count", wire.TypeSnapshotEnd, at(0, replaced(`"count":`, `"count":1`)), wire.RefusedTruncated},
	}...)
}

func changeFaults() []fault {
	return append(anyFrame(wire.TypeChange), []fault{
		{"altered body", wire.TypeChange, at(3, replaced(`"id":"f`, `"id":"g`)), wire.RefusedAltered},
		{"altered white space", wire.TypeChange, at(3, replaced(`"objects":[`, `"objects":[ `)), wire.RefusedAltered},
		{"altered audit hash", wire.TypeChange, at(3, replaced(`"audit_hash":"`, `"audit_hash":"0000`)), wire.RefusedMalformed},
		{"altered hash", wire.TypeChange, at(3, func(line []byte) ([][]byte, bool) {
			line = bytes.Clone(line)
			if last := &line[len(line)-3]; *last == '0' {
				*last = '1'
			} else {
				*last = '0'
			}
			return asLine(line), false
		}), wire.RefusedAltered},
		{"dropped change", wire.TypeChange, at(3, dropped), wire.RefusedOutOfOrder},
		{"replayed change", wire.TypeChange, at(3, doubled), wire.RefusedRollback},
		{"moved change", wire.TypeChange, nil, wire.RefusedOutOfOrder},
		{"another revision", wire.TypeChange, at(3, replaced(`"revision":`, `"revision":9`)), wire.RefusedOutOfOrder},
		{"a revision of the next epoch", wire.TypeChange, at(3, func(line []byte) ([][]byte, bool) {
			_, rest, _ := bytes.Cut(line, []byte(`,"time"`))
			return [][]byte{[]byte(`{"type":"change","revision":1099511627777,"time"` + string(rest) + "\n")}, false
		}), wire.RefusedAltered},
		{"snapshot from before", wire.TypeChange, at(3, instead(
			`{"type":"snapshot","platform":"p","revision":1,"hash":"`+strings.Repeat("0", 64)+`","time":"2030-01-01T00:00:00Z"}`+"\n")), wire.RefusedRollback},
	}...)
}

// TestFaults: whatever a stream says, it is refused and counted by its kind, the
// last good state stays, and the next connection makes it good.
func TestFaults(t *testing.T) {
	t.Parallel()
	run := func(name string, faults []fault, adapt func(*Options)) {
		for _, f := range faults {
			t.Run(name+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				testFault(t, f, adapt)
			})
		}
	}
	run("snapshot", snapshotFaults(), func(o *Options) { o.RingSize, o.MaxReplay = 1, 2 })
	run("change", changeFaults(), nil)
}

func testFault(t *testing.T, f fault, adapt func(*Options)) {
	t.Helper()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	p.WriteEnvironments("a", "e", 3)
	r := newReplica(t, p, adapt)
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	s.stop()
	r.alone(t)
	good := s.State()
	p.WriteEnvironments("a", "f", 10)
	r.fed(t)

	r.tamper.set(f.lines)
	again := runSidecar(t, s.Engine, r.http.URL, func(o *wire.Options) { o.RetryMin, o.RetryMax = patience, patience })
	eventually(t, "it is refused", func() bool { return len(again.feed.Status().Refusals) > 0 })
	require.Equal(t, map[wire.RefusalKind]uint64{f.want: 1}, again.feed.Status().Refusals)
	if f.on == wire.TypeChange {
		requireEqual(t, p.At(again.State().Revision()), again.State())
		require.Less(t, again.State().Revision(), p.State().Revision())
	} else {
		require.Same(t, good, again.State())
	}
	require.False(t, again.feed.Ready())
	again.stop()

	r.tamper.set(nil)
	third := runSidecar(t, s.Engine, r.http.URL, nil)
	third.reaches(t, p.State())
	require.NoError(t, third.feed.WaitReady(testContext(t)))
}

// TestRecoveryWithoutAHand: the same client goes through a bad connection to a good
// one.
func TestRecoveryWithoutAHand(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, nil)
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	r.tamper.set(fault{on: wire.TypeChange, line: at(1, replaced(`"id":"f`, `"id":"g`))}.lines)
	// The first connection was made before the tampering began: end it.
	require.NoError(t, s.feed.WaitReady(context.Background()))
	r.http.CloseClientConnections()
	eventually(t, "the tampered connection stands", func() bool { return s.feed.Status().Connects == 2 })
	p.WriteEnvironments("a", "f", 3)
	eventually(t, "it is refused", func() bool { return s.feed.Status().Refusals[wire.RefusedAltered] > 0 })
	r.tamper.set(nil)
	s.reaches(t, p.State())
	require.Equal(t, policies.Revision(4), s.State().Revision())
}

func cutLine(line []byte, at string) (before, after string, ok bool) {
	return strings.Cut(string(line), at)
}
