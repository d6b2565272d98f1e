package store_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// sqlConstants are the package's constants named sql…, by name.
func sqlConstants(t *testing.T) map[string]string {
	t.Helper()
	files := token.NewFileSet()
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	expressions := map[string]ast.Expr{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") || e.Type()&fs.ModeDir != 0 {
			continue
		}
		file, err := parser.ParseFile(files, e.Name(), nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for i, name := range spec.Names {
					if i < len(spec.Values) {
						expressions[name.Name] = spec.Values[i]
					}
				}
			}
			return true
		})
	}
	var value func(e ast.Expr) string
	value = func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.BasicLit:
			text, err := strconv.Unquote(e.Value)
			require.NoError(t, err)
			return text
		case *ast.Ident:
			return value(expressions[e.Name])
		case *ast.BinaryExpr:
			require.Equal(t, token.ADD, e.Op)
			return value(e.X) + value(e.Y)
		}
		require.Fail(t, "not a constant of strings", "%T", e)
		return ""
	}
	constants := map[string]string{}
	for name, e := range expressions {
		if strings.HasPrefix(name, "sql") {
			constants[name] = value(e)
		}
	}
	require.Greater(t, len(constants), 100)
	return constants
}

// Each constant is prepared against the migrated schema: a name or a type that does
// not fit fails here, which is what a generator would check.
func TestEverySQLConstantFitsTheSchema(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	for name, sql := range sqlConstants(t) {
		_, err := conn.Prepare(t.Context(), name, sql)
		require.NoError(t, err, "%s: %s", name, sql)
	}
}

// wholeTables go through whole tables on purpose.
var wholeTables = regexp.MustCompile(`^sql(Snapshot|Whole)`)

// Each query has an index: with sequential scans forbidden, none is left but of tables
// that are small for good, and no index is read from end to end.
func TestEveryQueryHasAnIndex(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	s := storetest.New(t, store.Options{URL: url})
	const owners = 60
	documents := make([]policies.Document, 0, owners)
	for i := range owners {
		d := standardDocument(i, owners)
		for n := range 20 {
			d.Members = append(d.Members, policies.DocumentMember{
				Account: policies.DocumentAccount{Email: fmt.Sprintf("nobody%d-%d@example.com", i, n)}, Status: policies.StatusPending,
			})
			d.Policies = append(d.Policies, policies.Policy{
				ID: policies.PolicyID(fmt.Sprintf("policy-%d-%d", i, n)), Name: "Own", Resources: policies.ResourceTypes, Actions: []policies.ActionName{"own.Do"},
			})
		}
		documents = append(documents, d.Normalize())
	}
	_, err := s.Import(t.Context(), call(), lines(documents...), nil)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	_, err = conn.Exec(t.Context(), "analyze; set enable_seqscan = off; set enable_mergejoin = off; set enable_hashjoin = off; set plan_cache_mode = force_generic_plan")
	require.NoError(t, err)
	scan := regexp.MustCompile(`(Seq Scan|Index Scan using \w+|Index Only Scan using \w+|Bitmap Index Scan) on (\w+)`)
	small := map[string]bool{
		"platform": true, "usher_schema": true, "system_policies": true, "system_policies_pkey": true, "policies_in_force": true,
		"idempotency_keys":       true, // empty here
		"pg_inherits":            true, // PostgreSQL's own: a row for each day
		"decisions_received_seq": true, // a sequence is one row
		"tokens":                 true, // a few rows for each platform
		"tokens_pkey":            true, "token_uses": true,
		"sidecars":       true, // a row for each sidecar
		"untold_changes": true, // a row for each change of the last minutes that a mail will tell of
	}
	for name, sql := range sqlConstants(t) {
		verb, _, _ := strings.Cut(sql, " ")
		if wholeTables.MatchString(name) || !slices.Contains([]string{"select", "with", "update", "delete", "insert"}, verb) {
			continue
		}
		description, err := conn.Prepare(t.Context(), name, sql)
		require.NoError(t, err, name)
		arguments := ""
		if n := len(description.ParamOIDs); n > 0 {
			arguments = "(" + strings.TrimSuffix(strings.Repeat("null,", n), ",") + ")"
		}
		rows, err := conn.Query(t.Context(), fmt.Sprintf("explain execute %q%s", name, arguments), pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, name)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, name)
		for i, line := range plan {
			m := scan.FindStringSubmatch(line)
			if m == nil || small[m[2]] || m[1] != "Seq Scan" && i+1 < len(plan) && strings.Contains(plan[i+1], "Index Cond") {
				continue
			}
			t.Errorf("%s reads all of %s:\n%s", name, m[2], strings.Join(plan, "\n"))
		}
	}
}
