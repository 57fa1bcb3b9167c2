// The operator's page: the door, if the API asks for a token, and what is behind it.

import { useMemo, useState } from 'react';

import { Api } from './api';
import { Door } from './door';
import { Live } from './live';

/** It is gone with the tab. */
const TOKEN = 'pipemesh.admin-token';

type Entry = { at: 'live'; token: string } | { at: 'door'; wrong: boolean };

export function App() {
  const [entry, setEntry] = useState<Entry>(() => ({ at: 'live', token: sessionStorage.getItem(TOKEN) ?? '' }));
  const token = entry.at === 'live' ? entry.token : '';
  const api = useMemo(() => new Api(token), [token]);
  const lock = (wrong: boolean) => {
    sessionStorage.removeItem(TOKEN);
    setEntry({ at: 'door', wrong });
  };
  if (entry.at === 'door') {
    const open = (given: string) => {
      sessionStorage.setItem(TOKEN, given);
      setEntry({ at: 'live', token: given });
    };
    return <Door wrong={entry.wrong} onToken={open} />;
  }
  return <Live key={token} api={api} hasToken={token !== ''} onRefused={() => lock(token !== '')} onForget={() => lock(false)} />;
}
