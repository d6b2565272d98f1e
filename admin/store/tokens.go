package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/usher-authz/usher/policies"
)

const selectTokens = `select id, name, hash, scopes, expires_at, created_at, revision from tokens` //nolint:gosec // no credentials, but their table

const (
	sqlToken     = selectTokens + ` where id = $1`
	sqlTokenName = `select name from tokens where id = $1`
	//nolint:gosec // no credentials, but their table
	sqlTokens = `select t.id, t.name, t.hash, t.scopes, t.expires_at, t.created_at, t.revision, u.used_at
from tokens t left join token_uses u on u.token = t.id where t.id > $1 order by t.id limit $2`
	// In the order of ids, so that two servers do not wait for each other. A token that
	// was revoked meanwhile has no use.
	sqlNoteUses = `insert into token_uses (token, used_at)
select t.id, n.at from unnest($1::text[], $2::timestamptz[]) n (id, at) join tokens t on t.id = n.id order by t.id
on conflict (token) do update set used_at = excluded.used_at where token_uses.used_at < excluded.used_at`

	sqlInsertToken = `insert into tokens (id, name, hash, scopes, expires_at, created_at, revision) values ($1, $2, $3, $4, $5, $6, $7)`
	sqlDeleteToken = `delete from tokens where id = $1`
)

// Token is a service token without its secret.
type Token struct {
	ID        string
	Name      string
	Scopes    []policies.Scope
	ExpiresAt *time.Time // nil: never
	CreatedAt time.Time
	// LastUsedAt is when a request to an admin server last carried it, to about a
	// minute; nil: none has, or not known here.
	LastUsedAt *time.Time
}

type tokenRow struct {
	ID        string
	Name      string
	Hash      string
	Scopes    []policies.Scope
	ExpiresAt *time.Time
	CreatedAt time.Time
	Revision  policies.Revision
}

// tokenName is what the actor's token is called; "" if it has none.
func (s *Store) tokenName(ctx context.Context, actor Actor) (string, error) {
	if actor.Token == "" || actor.TokenName != "" {
		return actor.TokenName, nil
	}
	rows, err := getAll[struct{ Name string }](ctx, s, sqlTokenName, actor.Token)
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0].Name, nil
}

func (r tokenRow) token() Token {
	t := Token{ID: r.ID, Name: r.Name, Scopes: r.Scopes, CreatedAt: policies.NormalizeTime(r.CreatedAt)}
	if r.ExpiresAt != nil {
		end := policies.NormalizeTime(*r.ExpiresAt)
		t.ExpiresAt = &end
	}
	return t
}

func (r tokenRow) item() Item[Token] {
	return Item[Token]{Value: r.token(), ETag: etag(r.Revision), Revision: r.Revision}
}

// usedTokenRow is a token with its last use, which is no part of it: an etag does not
// change with it.
type usedTokenRow struct {
	ID        string
	Name      string
	Hash      string
	Scopes    []policies.Scope
	ExpiresAt *time.Time
	CreatedAt time.Time
	Revision  policies.Revision
	UsedAt    *time.Time
}

func (r usedTokenRow) item() Item[Token] {
	item := tokenRow{r.ID, r.Name, r.Hash, r.Scopes, r.ExpiresAt, r.CreatedAt, r.Revision}.item()
	if r.UsedAt != nil {
		at := policies.NormalizeTime(*r.UsedAt)
		item.Value.LastUsedAt = &at
	}
	return item
}

// NoteTokenUses notes when tokens were used, by id. Earlier times than those noted
// change nothing, and ids that are no token's any more are left out.
func (s *Store) NoteTokenUses(ctx context.Context, uses map[string]time.Time) error {
	ids, times := make([]string, 0, len(uses)), make([]time.Time, 0, len(uses))
	for id, at := range uses {
		ids, times = append(ids, id), append(times, policies.NormalizeTime(at))
	}
	_, err := s.pool.Exec(ctx, sqlNoteUses, ids, times)
	return translate(err)
}

// tokenObject is a service token as the log has it.
type tokenObject struct{ tokenRow }

func (o tokenObject) key() objectKey { return objectKey{kind: policies.KindToken, id: o.ID} }
func (o tokenObject) body() any {
	return policies.TokenBody{Hash: o.Hash, Scopes: o.Scopes, ExpiresAt: o.token().ExpiresAt}
}
func (o tokenObject) public() any {
	return struct {
		Name      string           `json:"name"`
		Scopes    []policies.Scope `json:"scopes"`
		ExpiresAt *time.Time       `json:"expires_at"`
	}{o.Name, o.Scopes, o.token().ExpiresAt}
}
func (tokenObject) personal() any { return nil }

// CreateToken makes a service token, good until expires or, if that is nil, until it
// is revoked. Its secret is shown only here. Errors: InvalidError.
func (s *Store) CreateToken(
	ctx context.Context, call Call, name string, scopes []policies.Scope, expires *time.Time,
) (token Result[Token], secret string, err error) {
	if err := s.validateToken(name, scopes, expires); err != nil {
		return Result[Token]{}, "", err
	}
	if secret, err = policies.NewTokenSecret(s.rand); err != nil {
		return Result[Token]{}, "", err
	}
	id, err := s.newID("token")
	if err != nil {
		return Result[Token]{}, "", err
	}
	row := tokenRow{ID: id, Name: policies.NormalizeName(name), Hash: policies.HashToken(secret), Scopes: slices.Clone(scopes)}
	slices.Sort(row.Scopes)
	row.Scopes = slices.Compact(row.Scopes)
	if expires != nil {
		end := policies.NormalizeTime(*expires)
		row.ExpiresAt = &end
	}
	call.IdempotencyKey = "" // an answer with a secret is not kept
	token, err = writeResult(ctx, s, call, "token.create", func(tx *tx, r *Result[Token]) error {
		if err := tx.flush(); err != nil {
			return err
		}
		row := row
		row.CreatedAt = tx.now
		tx.change(sqlInsertToken, []any{row.ID, row.Name, row.Hash, row.Scopes, row.ExpiresAt, row.CreatedAt, tx.revision()}, made(tokenObject{row}))
		*r = Result[Token]{Value: row.token(), ETag: etag(tx.revision()), Created: true}
		return nil
	})
	if err != nil {
		return Result[Token]{}, "", err
	}
	return token, secret, nil
}

func (s *Store) validateToken(name string, scopes []policies.Scope, expires *time.Time) error {
	var errs []policies.FieldError
	add := func(field, reason string) { errs = append(errs, policies.FieldError{Field: field, Reason: reason}) }
	if reason := policies.CheckName(name, false); reason != "" {
		add("name", reason)
	}
	if len(scopes) == 0 {
		add("scopes", "must not be empty")
	}
	for i, scope := range scopes {
		if !slices.Contains(policies.Scopes, scope) {
			add(fmt.Sprintf("scopes[%d]", i), fmt.Sprintf("must be one of %v", policies.Scopes))
		}
	}
	if expires != nil && !expires.After(s.clock()) {
		add("expires_at", "must lie in the future")
	}
	return policies.Invalid(errs)
}

// ListTokens lists the service tokens by id, expired ones too. Errors: CursorError.
func (s *Store) ListTokens(ctx context.Context, page Page) (List[Item[Token]], error) {
	const list = "tokens"
	keys, err := decodeCursor(list, page.Cursor, "")
	if err != nil {
		return List[Item[Token]]{}, err
	}
	rows, err := getAll[usedTokenRow](ctx, s, sqlTokens, keys[0], page.size()+1)
	if err != nil {
		return List[Item[Token]]{}, err
	}
	return paged(rows, page, usedTokenRow.item, func(r usedTokenRow) string { return encodeCursor(list, r.ID) }), nil
}

// RevokeToken ends a service token at once and everywhere; the log keeps it.
// Errors: NotFoundError.
func (s *Store) RevokeToken(ctx context.Context, call Call, id string) (Result[struct{}], error) {
	return writeResult(ctx, s, call, "token.revoke", func(tx *tx, _ *Result[struct{}]) error {
		present := read[tokenRow](tx, sqlToken, id)
		if err := tx.flush(); err != nil {
			return err
		}
		row, there := present.one()
		if err := tx.match(there, row.Revision); err != nil {
			return err
		}
		if !there {
			return &policies.NotFoundError{Kind: "token", ID: id}
		}
		tx.change(sqlDeleteToken, []any{id}, gone(tokenObject{row}))
		return nil
	})
}
