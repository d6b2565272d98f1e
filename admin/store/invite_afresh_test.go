package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// A removed record that was never accepted becomes that of the address invited now,
// also where its account has moved to another address meanwhile.
func TestRemovedRecordTakesTheAddressInvitedNow(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.invite("mia@example.com")
	_, err := f.RemoveMember(t.Context(), call(), owner, id)
	require.NoError(t, err)
	_, err = f.PutAccount(t.Context(), call(), policies.Account{ID: "mia", Email: "mia@new.example", DisplayName: "Mia"})
	require.NoError(t, err)
	invited, err := f.Invite(t.Context(), call(), owner, store.Invitation{Email: "mia@new.example"})
	require.NoError(t, err)
	require.Equal(t, id, invited.Value.ID)
	require.Equal(t, "mia@new.example", invited.Value.Email)
	require.Equal(t, "mia@new.example", f.get(id).Email)
	requireSound(t, f.Store)
}
