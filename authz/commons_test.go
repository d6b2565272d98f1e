package authz

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

// Permissions that allow the same are the same, and are forgotten once nobody has
// them.
func TestCommonsAreShared(t *testing.T) {
	t.Parallel()
	var s commons
	p := embeddedPolicy(t)
	kind := func(role string) *common {
		return &common{policy: p, level: policies.LevelDirect, roles: []string{role}}
	}
	one, other := s.share(kind("Viewer")), s.share(kind("Starter"))
	require.NotSame(t, one, other)
	require.Same(t, one, s.share(kind("Viewer")))
	runtime.KeepAlive(one)
	runtime.KeepAlive(other)
	require.Eventually(t, func() bool {
		runtime.GC()
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.kinds) == 0
	}, time.Minute, time.Millisecond)
}
