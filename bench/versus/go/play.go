package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pingSize     = 64
	warmUp       = 100
	warmUpOfEach = 5
	betweenLooks = 16
	limit        = 600 * time.Second
)

// A connection for ping-pong.
type table struct {
	conn net.Conn
	ping [pingSize]byte
	back [pingSize]byte
}

func sit(task *task, server int) (*table, error) {
	conn, err := task.dial(task.servers[server])
	if err != nil {
		return nil, err
	}
	table := &table{conn: conn}
	for i := range table.ping {
		table.ping[i] = byte(i)
	}
	return table, nil
}

// Connects, and checks that the server echoes.
func set(task *task, limited bool) (*table, error) {
	table, err := sit(task, 0)
	if err != nil {
		return nil, err
	}
	if limited {
		if err := table.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return nil, err
		}
	}
	if err := table.play(1); err != nil {
		return nil, err
	}
	if !bytes.Equal(table.ping[:], table.back[:]) {
		return nil, errors.New("the echo differs from what was sent")
	}
	return table, table.play(warmUp)
}

func (table *table) play(roundTrips int) error {
	for i := 0; i < roundTrips; i++ {
		if _, err := table.conn.Write(table.ping[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(table.conn, table.back[:]); err != nil {
			return err
		}
	}
	return nil
}

// Measures round trips per second.
func pingPong(task *task, limited bool) (turn, error) {
	table, err := set(task, limited)
	if err != nil {
		return nil, err
	}
	return func() ([]float64, error) {
		if err := table.play(warmUp); err != nil {
			return nil, err
		}
		begun := time.Now()
		played := 0
		for {
			if err := table.play(betweenLooks); err != nil {
				return nil, err
			}
			played += betweenLooks
			if passed := time.Since(begun); passed >= task.turn {
				return []float64{float64(played) / passed.Seconds()}, nil
			}
		}
	}, nil
}

// Makes round trips only, for strace. The figure is their number.
func roundTrips(task *task, limited bool) (turn, error) {
	table, err := set(task, limited)
	if err != nil {
		return nil, err
	}
	return func() ([]float64, error) {
		return []float64{float64(task.count)}, table.play(task.count)
	}, nil
}

// Allocations per write and per read, in steady state. Counting stops the world, so there are fewer round
// trips than elsewhere.
func allocations(task *task) (turn, error) {
	table, err := set(task, false)
	if err != nil {
		return nil, err
	}
	count := (task.count + 9) / 10
	return func() ([]float64, error) {
		if err := table.play(count); err != nil {
			return nil, err
		}
		var stats runtime.MemStats
		soFar := func() uint64 {
			runtime.ReadMemStats(&stats)
			return stats.Mallocs
		}
		var inWrites, inReads uint64
		for i := 0; i < count; i++ {
			before := soFar()
			if _, err := table.conn.Write(table.ping[:]); err != nil {
				return nil, err
			}
			between := soFar()
			if _, err := io.ReadFull(table.conn, table.back[:]); err != nil {
				return nil, err
			}
			inReads += soFar() - between
			inWrites += between - before
		}
		per := func(allocations uint64) float64 { return float64(allocations) / float64(count) }
		return []float64{per(inWrites), per(inReads)}, nil
	}, nil
}

// Wake-ups of all threads per round trip, of all but the busiest thread per round trip, and of all threads
// per second at rest.
func wakeUps(task *task) (turn, error) {
	table, err := set(task, false)
	if err != nil {
		return nil, err
	}
	return func() ([]float64, error) {
		if err := table.play((task.count + 9) / 10); err != nil {
			return nil, err
		}
		before, err := wakeUpsSoFar()
		if err != nil {
			return nil, err
		}
		if err := table.play(task.count); err != nil {
			return nil, err
		}
		played, err := wakeUpsSoFar()
		if err != nil {
			return nil, err
		}
		begun := time.Now()
		time.Sleep(task.turn)
		rested, err := wakeUpsSoFar()
		if err != nil {
			return nil, err
		}
		resting := time.Since(begun)
		inAll, ofBusiest := increase(before, played)
		atRest, _ := increase(played, rested)
		// The end of the rest wakes the thread that sleeps through it.
		if atRest > 0 {
			atRest--
		}
		count := float64(task.count)
		return []float64{
			float64(inAll) / count,
			float64(inAll-ofBusiest) / count,
			float64(atRest) / resting.Seconds(),
		}, nil
	}, nil
}

// Returns the wake-ups of all threads and of the busiest thread between two counts.
func increase(before, after map[string]uint64) (inAll, ofBusiest uint64) {
	for thread, count := range after {
		more := count - before[thread]
		inAll += more
		if more > ofBusiest {
			ofBusiest = more
		}
	}
	return inAll, ofBusiest
}

// Many goroutines play at the same time, each over its own connection.
func goroutines(task *task) (turn, error) {
	tables := make([]*table, task.count)
	for i := range tables {
		table, err := sit(task, 0)
		if err != nil {
			return nil, err
		}
		if err := table.play(warmUpOfEach); err != nil {
			return nil, err
		}
		tables[i] = table
	}
	return func() ([]float64, error) {
		var over atomic.Bool
		var played atomic.Int64
		var failure atomic.Value
		var players sync.WaitGroup
		begun := time.Now()
		for _, table := range tables {
			table := table
			players.Add(1)
			go func() {
				defer players.Done()
				own := int64(0)
				for !over.Load() {
					if err := table.play(1); err != nil {
						failure.Store(err)
						return
					}
					own++
				}
				played.Add(own)
			}()
		}
		time.Sleep(task.turn)
		over.Store(true)
		players.Wait()
		if err, failed := failure.Load().(error); failed {
			return nil, err
		}
		return []float64{float64(played.Load()) / time.Since(begun).Seconds()}, nil
	}, nil
}

func median(values []float64) float64 {
	sort.Float64s(values)
	return values[len(values)/2]
}
