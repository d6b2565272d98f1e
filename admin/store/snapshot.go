package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

const (
	sqlSnapshotPolicy   = `select f.body from platform p join policies_in_force f on f.digest = p.policy_digest`
	sqlSnapshotTokens   = `select id, hash, scopes, expires_at from tokens order by id` //nolint:gosec // no credentials, but their table
	sqlSnapshotAccounts = `select id from accounts order by id`
	sqlSnapshotGroups   = `with recursive tree as (
    select owner, id, parent, 1 as depth from groups where parent is null
    union all
    select g.owner, g.id, g.parent, tree.depth + 1 from tree join groups g on g.owner = tree.owner and g.parent = tree.id
)
select owner, id, parent from tree order by owner, depth, id`
	sqlSnapshotEnvironments = `select e.owner, e.id,
    array(select p.group_id from environment_groups p where p.owner = e.owner and p.environment_id = e.id order by p.group_id) as groups
from environments e order by e.owner, e.id`
	sqlSnapshotPolicies = `select owner, id, resources, actions from policies order by owner, id`
	sqlSnapshotRoles    = `select r.owner, r.id, r.name, r.receive_load_alerts,
    array(select p.policy_id from role_policies p where p.owner = r.owner and p.role_id = r.id order by p.policy_id) as policies
from roles r order by r.owner, r.id`
	sqlSnapshotMembers = `select owner, id, account, status from collaborations order by owner, id`
	sqlSnapshotGrants  = `select owner, collaboration_id, resource_type, resource_id, array_agg(role_id order by role_id) as roles, min(expires_at) as expires_at
from grants group by owner, collaboration_id, resource_type, resource_id order by owner, collaboration_id, resource_type, resource_id`
)

// Snapshot hands fn the whole platform at one revision: the policy in force, the
// tokens, the accounts, then the groups of all accounts (parents first), their
// environments, custom policies, roles, members and grants. Each object comes after
// those that it refers to. The objects are read from the database while fn takes
// them; fn must not keep the sequence.
func (s *Store) Snapshot(ctx context.Context, fn func(header Header, objects iter.Seq2[policies.Object, error]) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate(err)
	}
	defer conn.Release()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return translate(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = tx.Rollback(ctx) // nothing to lose; a broken connection is dropped by the pool
	}()
	rows, err := tx.Query(ctx, sqlHead)
	if err != nil {
		return translate(err)
	}
	h, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[head])
	if err != nil {
		return translate(err)
	}
	return fn(h.header(), func(yield func(policies.Object, error) bool) {
		for _, part := range snapshotParts() {
			if err := part(ctx, tx, yield); errors.Is(err, errEnough) {
				return
			} else if err != nil {
				yield(policies.Object{}, translate(err))
				return
			}
		}
	})
}

// errEnough says that the taker of objects wants no more.
var errEnough = errors.New("no more objects are wanted")

type snapshotPart func(ctx context.Context, tx pgx.Tx, yield func(policies.Object, error) bool) error

func snapshotParts() []snapshotPart {
	return []snapshotPart{
		part(sqlSnapshotPolicy, func(r struct{ Body string }) (policies.Object, error) {
			id := string(policies.KindPolicyInForce)
			return policies.Object{Kind: policies.KindPolicyInForce, ID: id, Body: jsontext.Value(r.Body)}, nil
		}),
		part(sqlSnapshotTokens, func(r struct {
			ID, Hash  string
			Scopes    []policies.Scope
			ExpiresAt *time.Time
		},
		) (policies.Object, error) {
			return policies.NewObject(policies.KindToken, "", r.ID, policies.TokenBody{Hash: r.Hash, Scopes: r.Scopes, ExpiresAt: utc(r.ExpiresAt)})
		}),
		part(sqlSnapshotAccounts, func(r struct{ ID string }) (policies.Object, error) {
			return policies.NewObject(policies.KindAccount, "", r.ID, policies.AccountBody{})
		}),
		part(sqlSnapshotGroups, func(r struct {
			Owner  policies.AccountID
			ID     string
			Parent *policies.GroupID
		},
		) (policies.Object, error) {
			return policies.NewObject(policies.KindGroup, r.Owner, r.ID, policies.GroupBody{Parent: r.Parent})
		}),
		part(sqlSnapshotEnvironments, func(r struct {
			Owner  policies.AccountID
			ID     string
			Groups []policies.GroupID
		},
		) (policies.Object, error) {
			return policies.NewObject(policies.KindEnvironment, r.Owner, r.ID, policies.EnvironmentBody{Groups: r.Groups})
		}),
		part(sqlSnapshotPolicies, func(r struct {
			Owner     policies.AccountID
			ID        string
			Resources []policies.ResourceType
			Actions   []policies.ActionName
		},
		) (policies.Object, error) {
			return policies.NewObject(policies.KindPolicy, r.Owner, r.ID, policies.PolicyBody{Resources: r.Resources, Actions: r.Actions})
		}),
		part(sqlSnapshotRoles, func(r struct {
			Owner             policies.AccountID
			ID, Name          string
			ReceiveLoadAlerts bool
			Policies          []policies.PolicyID
		},
		) (policies.Object, error) {
			return policies.NewObject(policies.KindRole, r.Owner, r.ID,
				policies.RoleBody{Name: r.Name, Policies: r.Policies, ReceiveLoadAlerts: r.ReceiveLoadAlerts})
		}),
		part(sqlSnapshotMembers, func(r struct {
			Owner   policies.AccountID
			ID      string
			Account *policies.AccountID
			Status  policies.Status
		},
		) (policies.Object, error) {
			return policies.NewObject(policies.KindMember, r.Owner, r.ID, policies.MemberBody{Account: r.Account, Status: r.Status})
		}),
		part(sqlSnapshotGrants, func(r grantRow) (policies.Object, error) {
			o := grantObject{r.Owner, r.CollaborationID, r.grant()}
			return policies.NewObject(policies.KindGrant, r.Owner, o.key().id, o.body())
		}),
	}
}

// part streams the rows of one query as objects.
func part[R any](sql string, object func(R) (policies.Object, error)) snapshotPart {
	return func(ctx context.Context, tx pgx.Tx, yield func(policies.Object, error) bool) error {
		rows, err := tx.Query(ctx, sql)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			row, err := pgx.RowToStructByName[R](rows)
			if err != nil {
				return fmt.Errorf("read a row of a snapshot: %w", err)
			}
			o, err := object(row)
			if err != nil {
				return err
			}
			if !yield(o, nil) {
				return errEnough
			}
		}
		return rows.Err()
	}
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := policies.NormalizeTime(*t)
	return &u
}
