package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// scale is a world with one large account, big, and a small one, each with grants of
// every kind, five a member.
type scale struct {
	*platform

	members int
	begin   time.Time // of the log that sqlScaleLog makes
}

// scaleDocument is an account of so many members. All its roles are used, the role
// common by every member.
func scaleDocument(id string, members int) policies.Document {
	const roles, policiesOfRole = 40, 3
	groups, environments := max(10, members/40), max(20, members/5)
	name := func(kind string, i int) string { return fmt.Sprintf("%s-%s-%d", id, kind, i) }
	d := policies.Document{Account: policies.Account{ID: policies.AccountID(id), Email: id + "@example.com", DisplayName: id}}
	for i := range groups {
		g := policies.Group{ID: policies.GroupID(name("g", i)), Name: name("g", i), Color: policies.DefaultColor}
		if i >= 10 {
			g.Parent = new(policies.GroupID(name("g", i/10)))
		}
		d.Groups = append(d.Groups, g)
	}
	for i := range environments {
		d.Environments = append(d.Environments, policies.Environment{
			ID: policies.EnvironmentID(name("e", i)), Name: name("e", i), Groups: []policies.GroupID{policies.GroupID(name("g", i%groups))},
		})
	}
	for i := range policiesOfRole {
		d.Policies = append(d.Policies, policies.Policy{
			ID: policies.PolicyID(name("p", i)), Name: name("p", i), Resources: policies.ResourceTypes,
			Actions: []policies.ActionName{policies.ActionName(fmt.Sprintf("own.Do%d", i))},
		})
	}
	d.Roles = []policies.Role{
		{ID: "common", Name: "common", Policies: []policies.PolicyID{"environment.view"}},
		{ID: "manager", Name: "manager", Policies: []policies.PolicyID{
			"environment.view", "account.collaboration", "account.members", "env-group.view", "env-group.manage", "env-group.assign",
		}},
	}
	for i := range roles {
		d.Roles = append(d.Roles, policies.Role{
			ID: policies.RoleID(name("r", i)), Name: name("r", i), Policies: []policies.PolicyID{"environment.view", policies.PolicyID(name("p", i%policiesOfRole))},
		})
	}
	grant := func(kind policies.ResourceType, on string, role policies.RoleID) policies.Grant {
		return policies.Grant{Resource: policies.Resource{Type: kind, ID: on}, Roles: []policies.RoleID{role}}
	}
	for i := range members {
		account := policies.AccountID(name("m", i))
		role := policies.RoleID(name("r", i%roles))
		m := policies.DocumentMember{
			Account:     policies.DocumentAccount{ID: &account, Email: string(account) + "@example.com", DisplayName: string(account)},
			DisplayName: fmt.Sprintf("Member %d", i*7919%members), Status: policies.StatusActive,
			Grants: []policies.Grant{
				grant(policies.TypeEnvironment, name("e", i%environments), "common"),
				grant(policies.TypeEnvironment, name("e", (i*31+1)%environments), role),
				grant(policies.TypeGroup, name("g", i%groups), role),
				grant(policies.TypeGroup, name("g", (i*17+1)%groups), role),
			},
		}
		switch i % 4 {
		case 0:
			m.Grants = append(m.Grants, grant(policies.TypeGroups, id, role))
		case 1:
			m.Grants = append(m.Grants, grant(policies.TypeEnvironments, id, role))
		default:
			m.Grants = append(m.Grants, grant(policies.TypeAccount, id, role))
		}
		seen := map[policies.Resource]bool{}
		m.Grants = slices.DeleteFunc(m.Grants, func(g policies.Grant) bool {
			twice := seen[g.Resource]
			seen[g.Resource] = true
			return twice
		})
		if i%10 == 9 {
			m.Status = []policies.Status{policies.StatusPending, policies.StatusSuspended, policies.StatusLeft}[i/10%3]
		}
		d.Members = append(d.Members, m)
	}
	d.Members[0].Status = policies.StatusActive
	d.Members[0].Grants = []policies.Grant{
		grant(policies.TypeAccount, id, "manager"), grant(policies.TypeGroups, id, "manager"), grant(policies.TypeEnvironments, id, "manager"),
	}
	return d.Normalize()
}

// scaleStep is between two changes of the log: so little that they are over before
// whatever follows, since what a clock that goes back costs is not to be measured.
const scaleStep = 5 * time.Microsecond

// sqlScaleLog puts changes into the log as so many writes would have, but for their
// hashes, from a time on.
const sqlScaleLog = `
with head as (select revision from platform), n as (select generate_series(1, $1::int) as i)
insert into revisions (revision, at, objects, audit_hash, hash, action, token, token_name, account, local, request_id, owners, transaction, latest)
select head.revision + i, $2::timestamptz + i * $3 * interval '1 microsecond', '[]', sha256(i::text::bytea), sha256(''),
    case when i % 5000 = 7 then 'rare.action' else 'grant.put' end, case when i % 5000 = 11 then '' else 'token-1' end, 'one',
    case when i % 5000 = 11 then 'big-m-3' when i % 3 = 0 then 'big' else '' end, false, 'r', array['big'], gen_random_uuid(),
    $2::timestamptz + i * $3 * interval '1 microsecond'
from n, head`

const sqlScaleHead = `update platform set revision = r.revision, hash = r.hash
from (select revision, hash from revisions order by revision desc limit 1) r`

const sqlScaleChanges = `
with head as (select revision from platform), n as (select generate_series(1, $1::int) as i), m as
    (select row_number() over (order by id) - 1 as i, id from collaborations where owner = 'big'), size as (select count(*) as size from m)
insert into changes (owner, revision, ordinal, kind, id, before, after)
select 'big', head.revision + n.i, 0, case when n.i % 5000 = 13 then 'role' else 'grant' end,
    case when n.i % 5000 = 13 then 'common' else m.id || '/environment/big-e-1' end,
    '{"expires_at":null,"roles":["common"]}', '{"expires_at":null,"roles":["manager"]}'
from size cross join head cross join n join m on m.i = n.i % (select size from size)`

// importScale makes a database with the accounts, and gives its URL.
func importScale(tb testing.TB, members int) string {
	tb.Helper()
	url := storetest.URL(tb)
	s, err := store.Open(tb.Context(), store.Options{URL: url})
	require.NoError(tb, err)
	defer s.Close()
	start := time.Now()
	for _, d := range []policies.Document{scaleDocument("big", members), scaleDocument("small", 20)} {
		report, err := s.Import(tb.Context(), store.Call{Actor: store.Actor{Local: true}}, func(yield func(policies.DocumentLine) bool) {
			yield(policies.DocumentLine{Line: 1, Account: d.Account.ID, Document: d})
		}, nil)
		require.NoError(tb, err)
		require.Empty(tb, report.Errors)
	}
	tb.Logf("imported in %v", time.Since(start))
	return url
}

func startScale(tb testing.TB, members, changes int) *scale {
	tb.Helper()
	url := importScale(tb, members)
	conn, err := pgx.Connect(tb.Context(), url)
	require.NoError(tb, err)
	var begin time.Time
	require.NoError(tb, conn.QueryRow(tb.Context(), `select max(latest) from revisions`).Scan(&begin))
	_, err = conn.Exec(tb.Context(), sqlScaleLog, changes, begin, scaleStep.Microseconds())
	require.NoError(tb, err)
	_, err = conn.Exec(tb.Context(), sqlScaleChanges, changes)
	require.NoError(tb, err)
	for _, sql := range []string{sqlScaleHead, `analyze`} {
		_, err = conn.Exec(tb.Context(), sql)
		require.NoError(tb, err)
	}
	require.NoError(tb, conn.Close(context.Background()))
	return &scale{startOn(tb, url), members, begin}
}

// fill puts a member and times of the log into a path.
func (s *scale) fill(path, member string) string {
	at := func(change int) string {
		return s.begin.Add(time.Duration(change) * scaleStep).UTC().Format(time.RFC3339Nano)
	}
	return strings.NewReplacer("MEMBER", member, "MIDDLE", at(85_000), "SOON", at(85_030), "EARLY", at(1_440), "AFTER", at(1<<30)).Replace(path)
}

// walk reads every page of a list, at most so many, and gives how long each took and
// how many items came.
func (s *scale) walk(path string, most int, options ...option) (took []time.Duration, items int) {
	s.t.Helper()
	for cursor := ""; len(took) < most; {
		start := time.Now()
		a := s.do(http.MethodGet, path+cursor, nil, options...)
		took = append(took, time.Since(start))
		require.Equal(s.t, http.StatusOK, a.status, "%s: %s", a.what, a.body)
		if list, ok := a.get("items").([]any); ok {
			items += len(list)
		}
		if a.get("next_cursor") == nil {
			break
		}
		cursor = string("?&"[min(strings.Count(path, "?"), 1)]) + "cursor=" + a.text("next_cursor")
	}
	return took, items
}

func percentile(took []time.Duration, p float64) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[min(len(sorted)-1, int(float64(len(sorted))*p))]
}

// scaleLists are the lists of REST, all of big's or the platform's.
var scaleLists = []string{
	"/v1/accounts/big/members", "/v1/accounts/big/members?sort=-name", "/v1/accounts/big/members?sort=email", "/v1/accounts/big/members?sort=status",
	"/v1/accounts/big/members?sort=-last_changed", "/v1/accounts/big/members?search=member+77", "/v1/accounts/big/members?search=nobody",
	"/v1/accounts/big/members?status=left", "/v1/accounts/big/roles", "/v1/accounts/big/policies", "/v1/accounts/big/groups", "/v1/accounts/big/environments",
	"/v1/accounts/big/resources/environment/big-e-1/collaborators", "/v1/accounts/big/resources/group/big-g-1/collaborators",
	"/v1/accounts/big/resources/environments/big/collaborators", "/v1/accounts/big/resources/groups/big/collaborators",
	"/v1/accounts/big/resources/account/big/collaborators",
	"/v1/accounts/big/audit", "/v1/accounts/big/audit?order=desc", "/v1/accounts/big/audit?action=rare.action", "/v1/accounts/big/audit?actor=big-m-3",
	"/v1/accounts/big/audit?actor=big&order=desc", "/v1/accounts/big/audit?kind=role", "/v1/accounts/big/audit?kind=role&id=common",
	"/v1/accounts/big/audit?kind=member", "/v1/accounts/big/audit?kind=grant&order=desc",
	"/v1/accounts/big/audit?since=MIDDLE&until=SOON", "/v1/accounts/big/audit?until=EARLY&order=desc",
	"/v1/accounts/big/audit?since=AFTER", "/v1/accounts/big/audit?action=never", "/v1/accounts/big/audit?member=MEMBER",
	"/v1/audit?order=desc", "/v1/audit?action=rare.action", "/v1/audit?actor=big-m-3&order=desc", "/v1/audit?id=common", "/v1/audit?member=MEMBER",
	"/v1/audit?since=MIDDLE&until=SOON", "/v1/accounts/big/audit/reads", "/v1/audit/reads",
	"/v1/accounts/big/members/MEMBER/permissions?type=environment&id=big-e-1", "/v1/collaborations",
}

// BenchmarkScale prints how long a page of each list takes in a large account, beside
// the least that an answer takes.
func BenchmarkScale(b *testing.B) {
	s := startScale(b, 10_000, 200_000)
	member := s.do(http.MethodGet, "/v1/accounts/big/members?limit=1&search=member+5", nil).text("items.0.id")
	for _, list := range append([]string{"/v1/accounts/small"}, scaleLists...) {
		path := s.fill(list, member)
		b.Run(strings.ReplaceAll(list, "/v1/", ""), func(b *testing.B) {
			var options []option
			if path == "/v1/collaborations" {
				options = append(options, as("big-m-5"))
			}
			var took []time.Duration
			items := 0
			for b.Loop() {
				again, n := s.walk(path, 20, options...)
				took, items = append(took, again...), items+n
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(items)/float64(len(took)), "items/page")
			b.ReportMetric(percentile(took, 0.5).Seconds()*1000, "p50-ms")
			b.ReportMetric(percentile(took, 0.99).Seconds()*1000, "p99-ms")
		})
	}
}
