package store_test

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// The audit hash is of canonical JSON, as it was when it was encoded as a whole: the
// revisions of older binaries verify.
func TestAuditHashIsOfCanonicalJSON(t *testing.T) {
	t.Parallel()
	type item struct {
		Kind     string         `json:"kind"`
		Owner    string         `json:"owner"`
		ID       string         `json:"id"`
		Before   jsontext.Value `json:"before"`
		After    jsontext.Value `json:"after"`
		Personal string         `json:"personal"`
	}
	type part struct {
		Action    string    `json:"action"`
		Time      time.Time `json:"time"`
		Token     string    `json:"token"`
		TokenName string    `json:"token_name"`
		Account   string    `json:"account"`
		Local     bool      `json:"local"`
		RequestID string    `json:"request_id"`
		Address   string    `json:"address"`
		Items     []item    `json:"items"`
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 60_000, time.UTC)
	want := func(p part) policies.Hash {
		text, err := policies.CanonicalJSON(p)
		require.NoError(t, err)
		return sha256.Sum256(text)
	}
	got, err := store.AuditHash(store.AuditPart{Time: at, Local: true})
	require.NoError(t, err)
	require.Equal(t, want(part{Time: at, Local: true, Items: []item{}}), got)
	got, err = store.AuditHash(store.AuditPart{
		Account: "a", Action: "grant.put", Address: "ab", RequestID: "r\"\n\u2028é", Time: at, Token: "t", TokenName: "\x7f<&>",
		Items: []store.AuditItem{
			{After: jsontext.Value(`{"x":1}`), Before: jsontext.Value("null"), ID: "m/environment/e", Kind: "grant", Owner: "o", Personal: "cd"},
			{After: jsontext.Value("null"), Before: jsontext.Value(`{"roles":["r"]}`), ID: "g", Kind: "group", Owner: "o"},
		},
	})
	require.NoError(t, err)
	require.Equal(t, want(part{
		Action: "grant.put", Time: at, Token: "t", TokenName: "\x7f<&>", Account: "a", RequestID: "r\"\n\u2028é", Address: "ab",
		Items: []item{
			{Kind: "grant", Owner: "o", ID: "m/environment/e", Before: jsontext.Value("null"), After: jsontext.Value(`{"x":1}`), Personal: "cd"},
			{Kind: "group", Owner: "o", ID: "g", Before: jsontext.Value(`{"roles":["r"]}`), After: jsontext.Value("null")},
		},
	}), got)
}
