// Asks for the admin token.

import { useId, useState } from 'react';

import { Mark } from '../icons';
import { canBeToken } from './api';

interface Props {
  /** The last one was. */
  wrong: boolean;
  onToken: (token: string) => void;
}

export function Door({ wrong, onToken }: Props) {
  const [token, setToken] = useState('');
  const [complaint, setComplaint] = useState(wrong ? 'That token is wrong. It may have been changed since.' : '');
  const help = useId();
  const enter = (event: React.SyntheticEvent) => {
    event.preventDefault();
    const given = token.trim();
    if (canBeToken(given)) onToken(given);
    else setComplaint(given === '' ? 'Please enter the token.' : 'A token has neither spaces nor letters with accents.');
  };
  return (
    <main className="door">
      <form onSubmit={enter} noValidate>
        <p className="brand">
          <Mark />
          Pipemesh
        </p>
        <h1>The mesh</h1>
        <p id={help} className="quiet">
          For operators. The token is what <code>admin.token</code> is set to on this signaling process. It stays in this tab and is forgotten with it.
        </p>
        {complaint && (
          <p className="trouble" role="alert">
            {complaint}
          </p>
        )}
        <label>
          Admin token
          <input
            type="password"
            autoComplete="off"
            spellCheck={false}
            autoFocus
            value={token}
            aria-describedby={help}
            aria-invalid={complaint !== ''}
            onChange={(event) => setToken(event.target.value)}
          />
        </label>
        <button className="primary" type="submit">
          Show the mesh
        </button>
      </form>
    </main>
  );
}
