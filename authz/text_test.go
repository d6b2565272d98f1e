package authz

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

// A text is the string that it was made of, whatever its length, in a room with others
// or alone.
func TestText(t *testing.T) {
	t.Parallel()
	for _, in := range []*room{nil, {}} {
		var made []text[string]
		var want []string
		for i := range 3000 {
			id := strings.Repeat(fmt.Sprint(i%10), []int{1, 7, 22, policies.MaxIDLength, 0, 127, 200, roomPiece}[i%8])
			made, want = append(made, newText(in, id)), append(want, id)
		}
		require.Empty(t, text[string]{}.string())
		for i := range made {
			require.Equal(t, want[i], made[i].string())
		}
		again := newText(in, strings.Repeat("x", 3<<14))
		require.Len(t, again.string(), 3<<14, "a length of three bytes")
	}
}
