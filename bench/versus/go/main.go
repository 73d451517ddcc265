// The peer in Go: a client of the harness in the parent folder, over Go's net and crypto/tls. It prepares,
// prints ready, and then takes one turn for each input line, which it answers with the turn's figures. It
// ends with its input.
//
// The harness pins the process and passes these arguments: client, tcp or tls, length of a turn in
// nanoseconds, count, servers' addresses.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

type task struct {
	client  string
	turn    time.Duration
	count   int
	servers []string
	dial    dialer
}

// Takes one turn and returns its figures.
type turn func() ([]float64, error)

// Why this client cannot do a workload.
type unsupported struct{ why string }

func (reason unsupported) Error() string { return reason.why }

func main() {
	err := serve()
	var reason unsupported
	if errors.As(err, &reason) {
		fmt.Println("skipped:", reason.why)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	task, err := parse(os.Args[1:])
	if err != nil {
		return err
	}
	take, err := start(task)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		figures, err := take()
		if err != nil {
			return err
		}
		words := make([]string, len(figures))
		for i, figure := range figures {
			words[i] = strconv.FormatFloat(figure, 'g', -1, 64)
		}
		fmt.Println(strings.Join(words, " "))
	}
	return lines.Err()
}

func parse(words []string) (*task, error) {
	if len(words) < 5 {
		return nil, errors.New("too few words")
	}
	nanoseconds, err := strconv.ParseInt(words[2], 10, 64)
	if err != nil {
		return nil, err
	}
	count, err := strconv.Atoi(words[3])
	if err != nil {
		return nil, err
	}
	dial := dialer(dialPlain)
	if words[1] == "tls" {
		if dial, err = secureDialer(); err != nil {
			return nil, err
		}
	}
	return &task{
		client:  words[0],
		turn:    time.Duration(nanoseconds),
		count:   count,
		servers: words[4:],
		dial:    dial,
	}, nil
}

func start(task *task) (turn, error) {
	switch task.client {
	case "PingPong":
		return pingPong(task, false)
	case "PingPongLimited":
		return pingPong(task, true)
	case "RoundTrips":
		return roundTrips(task, false)
	case "RoundTripsLimited":
		return roundTrips(task, true)
	case "Allocations":
		return allocations(task)
	case "WakeUps":
		return wakeUps(task)
	case "Threads":
		return goroutines(task)
	case "Idle":
		return idle(task, 0)
	case "IdleAfterExchange":
		return idle(task, 1)
	case "Crowd":
		return crowd(task)
	case "BulkWrite":
		return bulkWrite(task)
	case "BulkRead":
		return bulkRead(task)
	case "SmallWrites":
		return smallWrites(task)
	case "SmallWritesBuffered":
		return smallWritesBuffered(task)
	case "Duplex":
		return duplex(task)
	case "Churn":
		return churn(task)
	case "Interrupt":
		return ended(task, atRest, byClose)
	case "InterruptInDialogue":
		return ended(task, inDialogue, byClose)
	case "Expire":
		return ended(task, atRest, byDeadline)
	case "ExpireInDialogue":
		return ended(task, inDialogue, byDeadline)
	}
	return nil, unsupported{"not known in Go: " + task.client}
}
